"""`dissect ablate`: before and after removing units, with the control."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissect._utils.errors import DissectError
from dissect.cli.choosing import by_rule
from dissect.cli.chosen import Wanted, ablate_chosen, chosen_edits
from dissect.cli.inserting import Job, insert, swap_in
from dissect.cli.labels import LabelSamples, LabelSource, SegmenterName, open_eyes, open_labels
from dissect.cli.options import (
    Boxes,
    Concept,
    Device,
    Force,
    Json,
    Layer,
    Model,
    OptionalRule,
    Out,
    Seed,
)
from dissect.cli.output import Output
from dissect.cli.saving import about_edit, check_saving, save_edited, saved_text

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["ablate"]

_WHERE = ("both", "probe", "everywhere")


def ablate(
    concept: Concept = "window",
    model: Model = "bedrooms64",
    layer: Layer = "layer8x8",
    boxes: Boxes = None,
    labels: LabelSource = "boxes",
    label_samples: LabelSamples = 300,
    segmenter: SegmenterName = None,
    units_file: Annotated[
        Path | None, typer.Option("--units", help="A units.json instead of the probe's units.")
    ] = None,
    rule: OptionalRule = None,
    where: Annotated[
        str,
        typer.Option(
            help="Where it acts: everywhere (the paper), probe (only at cells that the probe "
            "calls the concept), or both, one below the other."
        ),
    ] = "both",
    threshold: Annotated[
        float, typer.Option(help="Probability from which a cell counts as the concept.")
    ] = 0.5,
    strength: Annotated[
        float, typer.Option(help="0 untouched, 1 gone (the paper), 2 sign turned.")
    ] = 1.0,
    replace: Annotated[
        str, typer.Option(help="What stands in a unit's place: zero (the paper) or mean.")
    ] = "zero",
    region: Annotated[
        list[str] | None,
        typer.Option(help="Edit only in this box, x,y,width,height in pixels; repeatable."),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Samples shown.", min=1, max=10_000)] = 12,
    among: Annotated[
        int | None,
        typer.Option(
            help="Fresh samples to choose those from: the ones in which the probe sees most of "
            "the concept. By default 5 times as many; the same number shows them all.",
            min=1,
            max=10_000,
        ),
    ] = None,
    columns: Annotated[int, typer.Option(help="Samples in a row.", min=1)] = 12,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Save the edited generator, with --where everywhere (in its weights, where they "
            "can hold the edit) or --where probe (as a small module)."
        ),
    ] = None,
    excise: Annotated[
        bool, typer.Option("--excise", help="Save it without the units: smaller and faster.")
    ] = False,
    insert_it: Annotated[
        bool,
        typer.Option(
            "--insert",
            help="Put the concept in instead: in the --region, or everywhere in turn for a map.",
        ),
    ] = False,
    swap: Annotated[
        str | None,
        typer.Option(help="Put this concept in where the probe sees the first, which goes."),
    ] = None,
    put: Annotated[int, typer.Option(help="Units that --insert and --swap put in.", min=1)] = 64,
    level: Annotated[
        float, typer.Option(help="Their level: a quantile of what they do in the concept.")
    ] = 0.95,
    out: Out = Path("out"),
    seed: Seed = 1,
    device: Device = "auto",
    as_json: Json = False,
    force: Force = False,
) -> None:
    """Remove units and draw fresh samples before, after, and with as many random units removed."""
    from dissect._utils.device import resolve_device
    from dissect._utils.io import write_image
    from dissect.effect.compare import compare, fresh_latents, top_samples_by_concept
    from dissect.figures import labelled_rows
    from dissect.models import fingerprint, load
    from dissect.probe.fit import background_mean, fit_from_labels
    from dissect.surgery import Intervention, mean_activation
    from dissect.units import Units, parse_rule

    output = Output(as_json=as_json)
    if rule is not None:
        parse_rule(rule)
    if where not in _WHERE:
        raise DissectError(f"--where {where!r} is not known: use {', '.join(_WHERE)}")
    among = among or 5 * n
    if among < n:
        raise DissectError(f"--among {among} is fewer than --n {n}: choose from at least as many")
    generator = load(model, device=resolve_device(device))
    if insert_it or swap is not None:
        _check_putting(
            insert_it,
            swap,
            plain=(where, strength, replace, excise) == ("both", 1, "zero", False),
            region=bool(region),
        )
    # Labels of every command come from the same samples, whatever the seed of the fresh ones.
    ask = {"source": labels, "boxes": boxes, "segmenter": segmenter, "n": label_samples, "seed": 0}
    found = open_labels(generator, model, concept, **ask)  # type: ignore[arg-type]
    annotations, grid = found.annotations, _grid(generator, layer)
    if replace not in ("zero", "mean"):
        raise DissectError(f"--replace must be zero or mean, not {replace!r}")
    # The units come later; what cannot be is refused before they are looked for.
    edit = Intervention(
        Units(layer, (), 1),
        region=_region(region, annotations.size, grid),
        threshold=threshold,
        strength=strength,
    )
    plain = (strength, replace, edit.region) == (1, "zero", None)
    job = None
    if insert_it or swap is not None:
        job = Job(
            output=output,
            generator=generator,
            model=model,
            layer=layer,
            grid=grid,
            labels=found,
            segmenter=open_eyes(generator, segmenter),
            put=put,
            level=level,
            n=n,
            among=among,
            columns=columns,
            seed=seed,
            out=out,
            save=save,
            force=force,
        )
        job.check()
    else:
        check_saving(save, generator, edit, where, replace=replace, excised=excise, force=force)
    if job is not None and insert_it:
        insert(job, edit.region)
        return
    probe = fit_from_labels(generator, found, layer, scored=False)
    if job is None and units_file is None:
        auto = chosen_edits(
            rule,
            generator,
            model,
            layer,
            concept,
            probe,
            plain=plain and threshold == 0.5 and not excise,
            labels=labels,
            segmenter=segmenter,
            out=out,
            output=output,
        )
        if auto:
            z = fresh_latents(generator, among, seed, annotations)
            wanted = Wanted(model, where, n, columns, seed, save, force, out)
            ablate_chosen(auto, generator, probe, z, wanted, output)
            return
    if units_file is None:
        units = by_rule(rule or "positive", generator, layer, concept, probe, segmenter)
    else:
        units = Units.load(units_file)
        units.check(fingerprint(generator), layer, len(probe.weight))
    if job is not None and swap is not None:
        ask |= {"source": "segmenter", "boxes": None}
        other = open_labels(generator, model, swap, **ask)  # type: ignore[arg-type]
        swap_in(job, units, probe, threshold, other)
        return
    z = fresh_latents(generator, among, seed, annotations)
    shown = list(range(n)) if among == n else top_samples_by_concept(generator, probe, z, n)
    edit = dataclasses.replace(edit, units=units)
    if replace == "mean":
        every = Units(layer, tuple(range(units.total)), units.total)
        edit = dataclasses.replace(edit, replacement=mean_activation(generator, every, z[shown]))
    shows_filled = where == "both" and plain
    states = compare(
        generator,
        z[shown],
        edit,
        gate=probe if where != "everywhere" else None,
        background=background_mean(generator, found, layer) if shows_filled else None,
        control_seed=seed,
    )
    named = {
        "before": "before",
        "everywhere": f"{len(units)} units removed\n"
        + ("everywhere (the paper)" if edit.region is None else "in the region"),
        "probe": f"the same units, only\nwhere the probe sees\na {concept}",
        "filled": f"there, every unit as\nwhere there is no\n{concept}",
        "random": f"{len(units)} random units\nremoved "
        + ("everywhere" if edit.region is None else "in the region"),
    }
    rows = {
        named[state]: images
        for state, images in states.items()
        if where != "probe" or state != "everywhere"
    }
    chosen = (
        f"{n} fresh samples"
        if among == n
        else f"the {n} of {among} fresh samples in which the probe sees most {concept}"
    )
    caption = f"{model}, {layer}: {chosen}"
    sheet = labelled_rows(rows, columns=columns, caption=caption)
    output.wrote(write_image(out / "ablate.png", sheet))
    saved = None
    if save is not None:
        saved = save_edited(
            save,
            generator,
            dataclasses.replace(edit, gate=probe if where == "probe" else None),
            z[shown],
            about=about_edit(edit, where),
            excised=excise,
            force=force,
        )
        output.wrote(save)
    values = {
        "concept": concept,
        "labels": labels,
        "layer": layer,
        "rule": units.rule,
        "where": where,
        "strength": strength,
        "replace": replace,
        "n_selected": len(units),
        "units": list(units.indices),
        "n_samples": n,
        "among": among,
        "shown": shown,
        "seed": seed,
        "saved": saved,
    }
    text = f"{len(units)} of {units.total} units of {layer} removed from {chosen}"
    output.result(values, text if saved is None else f"{text}\n{saved_text(saved)}")


def _grid(generator: "nn.Module", layer: str) -> tuple[int, int]:
    from dissect.hooks import activations
    from dissect.models import latents_for

    height, width = activations(generator, layer, latents_for(generator, 1)).shape[2:]
    return height, width


def _region(
    boxes: list[str] | None, size: tuple[int, int], grid: tuple[int, int]
) -> "Tensor | None":
    """The cells at least half of which lie inside the boxes."""
    from dissect.annotations import AnnotatedImage, Annotations, Box

    if not boxes:
        return None
    drawn = []
    for text in boxes:
        try:
            x, y, width, height = map(float, text.split(","))
        except ValueError as error:
            raise DissectError(
                f"--region {text!r} is no box: give x,y,width,height in pixels, as in 8,4,20,24"
            ) from error
        drawn.append(Box(x, y, width, height).within(size[1], size[0]))
    image = AnnotatedImage(height=size[0], width=size[1], boxes=tuple(drawn))
    cells = Annotations("region", (image,)).coverage(grid)[0] >= 0.5
    if not bool(cells.any()):
        raise DissectError(
            f"--region covers no cell of the {grid[0]}x{grid[1]} grid by half: draw it larger"
        )
    return cells.float()


def _check_putting(insert_it: bool, swap: str | None, *, plain: bool, region: bool) -> None:
    if insert_it and swap is not None:
        raise DissectError("--insert puts the concept in, --swap another one: leave one out")
    if not plain:
        raise DissectError(
            "--insert and --swap set units to levels of their own: leave out --where, --strength, "
            "--replace and --excise"
        )
    if swap is not None and region:
        raise DissectError("--swap acts where the probe sees the concept: leave out --region")
