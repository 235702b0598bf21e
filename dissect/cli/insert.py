"""`dissect insert`: a concept put in at a region, or at every place in turn for a map."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect._utils.errors import DissectError
from dissect._utils.progress import progress_bar
from dissect.cli.edit_options import region_of, save_edits
from dissect.cli.options import (
    LabelOptions,
    ModelOptions,
    OutputOptions,
    SampleOptions,
    with_groups,
)
from dissect.cli.output import Output
from dissect.cli.study import Study

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from dissect.effect.placement import Placement
    from dissect.segmentation.pseudo_labels import ConceptLabels
    from dissect.surgery import Intervention

__all__ = ["Level", "UnitCount", "insert", "inserting_edit"]

_PATCH = (2, 2)
_COLUMNS = 15
_YELLOW = (255, 212, 0)

UnitCount = Annotated[
    int,
    typer.Option(
        "--k", help="Units that put the concept in.", min=1, max=100_000, rich_help_panel="Edit"
    ),
]
Level = Annotated[
    float,
    typer.Option(
        help="Their level: a quantile of their activation inside the concept.",
        min=0,
        max=1,
        rich_help_panel="Edit",
    ),
]


@with_groups
def insert(
    model: ModelOptions,
    labels: LabelOptions,
    samples: SampleOptions,
    output: OutputOptions,
    region: Annotated[
        list[str] | None,
        typer.Option(
            help="Where to put the concept in: x,y,width,height in pixels; repeatable. Without "
            "it, every place is tried, a map is drawn, and the best place is taken.",
            rich_help_panel="Edit",
        ),
    ] = None,
    k: UnitCount = 64,
    level: Level = 0.95,
) -> None:
    """Put a concept into fresh samples, and measure how often the segmenter then sees it."""
    printed = Output(as_json=output.as_json)
    n, pool = samples.n, samples.drawn
    from dissect._utils.images import to_images
    from dissect._utils.io import write_image
    from dissect.effect.placement import place, place_everywhere
    from dissect.figures import placement_figure, rasterized
    from dissect.models import generate

    study = Study.load(model, labels)
    generator, concept = study.generator, study.concept
    cells = None if region is None else region_of(region, study)
    if cells is not None and not study.is_measurable:
        _draw(study, samples, output, printed, cells, k, level)
        return
    segmenter = study.segmenter
    edit, z = inserting_edit(study, study.labels, k, level), study.fresh(pool, output.seed)
    values: dict[str, Any] = {}
    lines: list[str] = []
    if cells is None:
        places = (study.grid[0] - _PATCH[0] + 1) * (study.grid[1] - _PATCH[1] + 1)
        with progress_bar("placing", places) as progress:
            everywhere = place_everywhere(
                generator, segmenter, z, edit, study.grid, patch=_PATCH, progress=progress
            )
        images = to_images(generate(generator, z))
        figure = placement_figure(everywhere, images, study.grid, _PATCH)
        printed.wrote(write_image(output.out / "insert_map.png", rasterized(figure)))
        values |= _map_values(everywhere)
        lines += _map_lines(everywhere)
        # The best of many places on these samples is less good on others.
        cells, z = _best(everywhere, study.grid), study.fresh(2 * pool, output.seed)[pool:]
    edit = replace(edit, region=cells)
    control = edit.control(output.seed)
    placed = place(generator, segmenter, z, edit, cells)
    random = place(generator, segmenter, z, control, cells)
    free = placed.eligible[:, 0].nonzero()[0][:n]
    if not len(free):
        raise DissectError(
            f"all {len(z)} samples have a {concept} in the region already: choose another region"
        )
    which = f"the first {len(free)} fresh samples with no {concept} in the region"
    _show(study, z[free], edit, control, which, printed, output)
    n_free, inserted, by_chance = int(placed.eligible.sum()), placed.estimate(), random.estimate()
    values |= {
        "concept": concept,
        "layer": study.layer,
        "n_selected": len(edit.units),
        "units": list(edit.units.indices),
        "level": level,
        "cells": cells.nonzero().tolist(),
        "n_samples": len(z),
        "n_free": n_free,
        "inserted": inserted.value,
        "inserted_ci": inserted.interval,
        "random": by_chance.value,
        "random_ci": by_chance.interval,
        "outside_change": float(placed.change[0]),
        "random_outside_change": float(random.change[0]),
        "seed": output.seed,
    }
    lines.append(
        f"{len(edit.units)} units of {study.layer} set in {int(cells.sum())} cells: a {concept} is "
        f"seen there on {inserted.value:.0%} ({inserted.low:.0%} to {inserted.high:.0%}) of "
        f"{n_free} samples without one; with as many random units on "
        f"{by_chance.value:.0%}; the rest of the image changes by "
        f"{placed.change[0]:.3f} (random: {random.change[0]:.3f})"
    )
    printed.result(values, "\n".join(lines))


def _draw(
    study: Study,
    samples: SampleOptions,
    output: OutputOptions,
    printed: Output,
    cells: "Tensor",
    k: int,
    level: float,
) -> None:
    """Put a concept in that no segmenter knows: pictures, and nothing measured."""
    edit = replace(inserting_edit(study, study.labels, k, level), region=cells)
    which = f"{samples.n} fresh samples"
    z = study.fresh(samples.n, output.seed)
    _show(study, z, edit, edit.control(output.seed), which, printed, output)
    values = {
        "concept": study.concept,
        "layer": study.layer,
        "n_selected": len(edit.units),
        "units": list(edit.units.indices),
        "level": level,
        "cells": cells.nonzero().tolist(),
        "n_samples": samples.n,
        "inserted": None,
        "seed": output.seed,
    }
    text = (
        f"{len(edit.units)} units of {study.layer} set in {int(cells.sum())} cells; the segmenter "
        f"does not know {study.concept!r}, so that nothing was measured (--segmenter names another)"
    )
    printed.result(values, text)


def _show(
    study: Study,
    z: "Tensor",
    edit: "Intervention",
    control: "Intervention",
    which: str,
    printed: Output,
    output: OutputOptions,
) -> None:
    """Write the picture of the samples before and after, and the edit."""
    from dissect._utils.images import to_images
    from dissect._utils.io import write_image
    from dissect.figures import labelled_rows
    from dissect.models import generate

    assert edit.region is not None
    before = to_images(generate(study.generator, z))
    rows = {"before (yellow:\nthe region)": _outlined(before, edit.region)}
    for name, one in (("", edit), ("random ", control)):
        label = f"{len(edit.units)} {name or f'{study.concept} '}units\nset there"
        rows[label] = to_images(generate(study.generator, z, edit=one))
    caption = f"{study.options.model}, {study.layer}: {which}"
    sheet = labelled_rows(rows, columns=min(len(z), _COLUMNS), caption=caption)
    printed.wrote(write_image(output.out / "insert.png", sheet))
    save_edits({"region": edit}, printed, output.out)


def inserting_edit(study: Study, labels: "ConceptLabels", k: int, level: float) -> "Intervention":
    """The edit that puts the labels' concept in.

    Raises:
        DissectError: too few cells of the concept, or more units than the layer has.
    """
    from dissect.probe.fit import labelled_cells
    from dissect.surgery import Intervention

    acts, coverage = labelled_cells(study.generator, labels, study.layer)
    return Intervention.insert(
        acts,
        coverage,
        layer=study.layer,
        concept=labels.concept,
        model=study.fingerprint,
        k=k,
        level=level,
    )


def _outlined(images: "NDArray[np.uint8]", region: "Tensor") -> "NDArray[np.uint8]":
    """The images with a yellow line around the region, a pixel wide, outside of it."""
    import numpy as np
    from scipy.ndimage import binary_dilation

    inside = region.numpy() > 0.5
    height, width = images.shape[1:3]
    rows = np.arange(height) * inside.shape[0] // height
    columns = np.arange(width) * inside.shape[1] // width
    large = inside[rows][:, columns]
    marked = images.copy()
    marked[:, binary_dilation(large, np.ones((3, 3))) & ~large] = _YELLOW
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
    from dissect._utils.result import to_plain

    surroundings = {
        name: {"n": count, "inserted": found.value, "inserted_ci": found.interval}
        for name, (count, found) in placement.by_surroundings().items()
    }
    grid = to_plain(placement.probability())
    return {"map": grid, "patch": list(_PATCH), "surroundings": surroundings}


def _map_lines(placement: "Placement") -> list[str]:
    lines = [f"a {placement.concept} put in at every place, by what was there before:"]
    for name, (count, found) in placement.by_surroundings().items():
        lines.append(
            f"  {name}: seen on {found.value:.0%} ({found.low:.0%} to {found.high:.0%}) of "
            f"{count:,} patches"
        )
    return lines
