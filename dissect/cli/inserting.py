"""`dissect ablate --insert` and `--swap`: a concept put in, at a place or in another's place."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissect._utils.errors import DissectError
from dissect.cli.output import Output
from dissect.cli.saving import check_saving, save_edited, saved_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from dissect.effect.placement import Placement
    from dissect.probe import Probe
    from dissect.segmentation import Segmenter
    from dissect.segmentation.pseudo_labels import ConceptLabels
    from dissect.surgery import Intervention
    from dissect.units import Units

__all__ = ["Job", "insert", "swap_in"]

_PATCH = (2, 2)


@dataclass(frozen=True)
class Job:
    """What both commands work with.

    Attributes:
        output: where results are said.
        generator, model: the network, and what it was loaded by.
        layer: whose units are set.
        grid: its rows and columns.
        labels: where the concept is.
        segmenter: what judges the result.
        put, level: how many units are set, and to which quantile.
        n, among, columns: samples shown, drawn to measure on, and in a row.
        seed: of the samples, and of the random units.
        out: a folder; save: a checkpoint; force: replace it.
    """

    output: Output
    generator: "nn.Module"
    model: str
    layer: str
    grid: tuple[int, int]
    labels: "ConceptLabels"
    segmenter: "Segmenter"
    put: int
    level: float
    n: int
    among: int
    columns: int
    seed: int
    out: Path
    save: Path | None
    force: bool

    def fresh(self, part: int = 0) -> "Tensor":
        """Latents that nothing was chosen on; another part is of other samples."""
        from dissect.effect.compare import fresh_latents

        n = (part + 1) * self.among
        z = fresh_latents(self.generator, n, self.seed, self.labels.annotations)
        return z[part * self.among :]

    def check(self) -> None:
        """Refuse what cannot be judged or saved, before any work."""
        from dissect.surgery import Intervention
        from dissect.units import Units

        self.segmenter.class_id(self.labels.concept)
        edit = Intervention(Units(self.layer, (), 1))
        check_saving(self.save, self.generator, edit, "probe", excised=False, force=self.force)

    def to_put(self, labels: "ConceptLabels") -> "Intervention":
        """What puts the labels' concept in."""
        from dissect.models import fingerprint
        from dissect.probe.fit import labelled_cells
        from dissect.surgery import Intervention

        acts, coverage = labelled_cells(self.generator, labels, self.layer)
        return Intervention.insert(
            acts,
            coverage,
            layer=self.layer,
            concept=labels.concept,
            model=fingerprint(self.generator),
            k=self.put,
            level=self.level,
        )

    def saved(self, edit: "Intervention", z: "Tensor") -> dict[str, Any] | None:
        """Write the edited generator, where that was asked for."""
        from dissect.surgery.apply import unit_levels

        if self.save is None:
            return None
        levels = unit_levels(edit)
        about = {
            "rule": edit.units.rule,
            "concept": edit.units.concept,
            "values": None if levels is None else levels.tolist(),
        }
        found = save_edited(self.save, self.generator, edit, z, about=about, force=self.force)
        self.output.wrote(self.save)
        return found


def insert(job: Job, region: "Tensor | None") -> None:
    """Put the concept in at the region; without one, draw where it can be, and take the best."""
    from dissect._utils.io import write_image
    from dissect._utils.progress import progress_bar
    from dissect.effect.placement import place, place_everywhere
    from dissect.figures import labelled_rows, placement_figure, rasterized

    concept = job.labels.concept
    what, z = job.to_put(job.labels), job.fresh()
    values: dict[str, Any] = {}
    lines = []
    if region is None:
        places = (job.grid[0] - _PATCH[0] + 1) * (job.grid[1] - _PATCH[1] + 1)
        with progress_bar("placing", places) as progress:
            everywhere = place_everywhere(
                job.generator, job.segmenter, z, what, job.grid, patch=_PATCH, progress=progress
            )
        figure = placement_figure(everywhere, _drawn(job, z), job.grid, _PATCH)
        job.output.wrote(write_image(job.out / "insert_map.png", rasterized(figure)))
        values |= _map_values(everywhere)
        lines += _map_lines(everywhere)
        # The best of many places on these samples is less good on others.
        region, z = _best(everywhere, job.grid), job.fresh(1)
    edit = place(job.generator, job.segmenter, z, what, region)
    control = place(job.generator, job.segmenter, z, what.control(job.seed), region)
    free = edit.eligible[:, 0].nonzero()[0][: job.n]
    if not len(free):
        raise DissectError(
            f"all {len(z)} samples have a {concept} in the region already: choose another region"
        )
    rows = {"before (yellow:\nthe region)": _outlined(_drawn(job, z[free]), region)}
    for name, one in (
        (f"{len(what.units)} {concept} units\nset there", what),
        (f"{len(what.units)} random units\nset there", what.control(job.seed)),
    ):
        with one.with_gate(region=region).applied(job.generator):
            rows[name] = _drawn(job, z[free])
    caption = (
        f"{job.model}, {job.layer}: the first {len(free)} fresh samples with no {concept} in the "
        "region"
    )
    sheet = labelled_rows(rows, columns=job.columns, caption=caption)
    job.output.wrote(write_image(job.out / "insert.png", sheet))
    put, by_chance = edit.estimate(), control.estimate()
    saved = job.saved(what.with_gate(region=region), z[free])
    values |= {
        "concept": concept,
        "layer": job.layer,
        "n_selected": len(what.units),
        "units": list(what.units.indices),
        "level": job.level,
        "cells": region.nonzero().tolist(),
        "n_samples": len(z),
        "n_free": int(edit.eligible.sum()),
        "inserted": put.value,
        "inserted_ci": put.interval,
        "random": by_chance.value,
        "random_ci": by_chance.interval,
        "outside_change": float(edit.change[0]),
        "random_outside_change": float(control.change[0]),
        "seed": job.seed,
        "saved": saved,
    }
    lines.append(
        f"{len(what.units)} units of {job.layer} set in {int(region.sum())} cells: a {concept} is "
        f"seen there on {put.value:.0%} ({put.low:.0%} to {put.high:.0%}) of "
        f"{int(edit.eligible.sum())} samples without one; with as many random units on "
        f"{by_chance.value:.0%}; the rest of the image changes by "
        f"{edit.change[0]:.3f} (random: {control.change[0]:.3f})"
    )
    if saved is not None:
        lines.append(saved_text(saved))
    job.output.result(values, "\n".join(lines))


def swap_in(
    job: Job, units: "Units", probe: "Probe", threshold: float, other: "ConceptLabels"
) -> None:
    """Put another concept in where the probe sees the first, whose units go."""

    from dissect._utils.io import write_image
    from dissect.effect.compare import top_samples_by_concept
    from dissect.effect.measure import measure_effect, observe
    from dissect.figures import labelled_rows, rasterized, replacement_figure
    from dissect.surgery import Intervention

    concept, new = job.labels.concept, other.concept
    put, z = job.to_put(other).with_gate(probe, threshold=threshold), job.fresh()
    swapped = Intervention.swap(units, put)
    # The first edit is the one that the others build on.
    edits = {
        "removed": Intervention(units, probe, threshold=threshold),
        "swapped": swapped,
        "random": Intervention.swap(units, put.control(job.seed)),
    }
    named = {
        "removed": f"{len(units)} {concept} units\nremoved",
        "swapped": f"and {len(put.units)} {new} units\nput in",
        "random": f"or {len(put.units)} random units\nput in",
    }

    seen = observe(job.generator, job.segmenter, z)
    shown = top_samples_by_concept(job.generator, probe, z, job.n)
    rows, values, became = {"before": _drawn(job, z[shown])}, {}, {}
    for key, one in edits.items():
        effect = measure_effect(
            job.generator,
            job.segmenter,
            z,
            concept,
            partial(one.applied, job.generator),
            before=seen,
            with_features=False,
        )
        replaced = effect.replacement().tolist()
        shares = dict(zip(effect.classes, replaced, strict=True))
        became[named[key].replace("\n", " ")] = shares
        values[key] = {
            "became": shares,
            "removed": effect.removal(),
            "removed_ci": effect.estimate("removal").interval,
            "images_with": list(effect.prevalence_before_after()),
            "outside_change": effect.change(),
        }
        with one.applied(job.generator):
            rows[named[key]] = _drawn(job, z[shown])
    caption = (
        f"{job.model}, {job.layer}: the {len(shown)} of {len(z)} fresh samples in which the probe "
        f"sees most {concept}; edited only where it sees a {concept}"
    )
    sheet = labelled_rows(rows, columns=job.columns, caption=caption)
    job.output.wrote(write_image(job.out / "swap.png", sheet))
    figure = rasterized(replacement_figure(concept, became))
    job.output.wrote(write_image(job.out / "swap_became.png", figure))
    saved = job.saved(swapped, z[shown])
    result = {
        "concept": concept,
        "swap": new,
        "layer": job.layer,
        "n_removed": len(units),
        "n_put": len(put.units),
        "level": job.level,
        "threshold": threshold,
        "n_samples": len(z),
        **values,
        "seed": job.seed,
        "saved": saved,
    }
    lines = [f"what the pixels of a {concept} became, on {len(z)} fresh samples:"]
    for name, key in zip(became, edits, strict=True):
        shares = became[name]
        lines.append(
            f"  {name}: {shares[new]:.0%} {new}, {shares[concept]:.0%} still {concept}; "
            f"outside changed by {values[key]['outside_change']:.3f}"
        )
    if saved is not None:
        lines.append(saved_text(saved))
    job.output.result(result, "\n".join(lines))


def _drawn(job: Job, z: "Tensor") -> "NDArray[np.uint8]":
    from dissect._utils.images import to_images
    from dissect.models import generate

    return to_images(generate(job.generator, z))


def _outlined(images: "NDArray[np.uint8]", region: "Tensor") -> "NDArray[np.uint8]":
    """The images with a yellow line around the region, a pixel wide, outside of it."""
    import numpy as np

    inside = region.numpy() > 0.5
    height, width = images.shape[1:3]
    rows = np.arange(height) * inside.shape[0] // height
    columns = np.arange(width) * inside.shape[1] // width
    large = np.pad(inside[rows][:, columns], 1)
    near = np.zeros_like(large)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            near |= np.roll(large, (down, right), (0, 1))
    edge = (near & ~large)[1:-1, 1:-1]
    marked = images.copy()
    marked[:, edge] = (255, 212, 0)
    return marked


def _best(placement: "Placement", grid: tuple[int, int]) -> "Tensor":
    """The cells of the patch in which the concept appears most often."""
    import numpy as np
    import torch

    value = np.nan_to_num(placement.probability(), nan=-1.0)
    row, column = np.unravel_index(int(value.argmax()), value.shape)
    cells = torch.zeros(grid)
    cells[row : row + _PATCH[0], column : column + _PATCH[1]] = 1
    return cells


def _map_values(placement: "Placement") -> dict[str, Any]:
    import numpy as np

    grid = [
        [None if np.isnan(value) else float(value) for value in row]
        for row in placement.probability()
    ]
    surroundings = {
        name: {"n": count, "inserted": found.value, "inserted_ci": found.interval}
        for name, (count, found) in placement.by_surroundings().items()
    }
    return {"map": grid, "patch": list(_PATCH), "surroundings": surroundings}


def _map_lines(placement: "Placement") -> list[str]:
    lines = [f"a {placement.concept} put in at every place, by what was there before:"]
    for name, (count, found) in placement.by_surroundings().items():
        lines.append(
            f"  {name}: seen on {found.value:.0%} ({found.low:.0%} to {found.high:.0%}) of "
            f"{count:,} patches"
        )
    return lines
