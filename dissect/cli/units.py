"""`dissect units`: what every unit of a layer, or of all layers, answers to."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect.cli.options import Given, ModelOptions, OutputOptions, SegmenterName, with_groups
from dissect.cli.output import Output

if TYPE_CHECKING:
    from dissect.dissection import Dissection

__all__ = ["units"]

_LISTED = 12


@with_groups
def units(
    model: ModelOptions,
    output: OutputOptions,
    given: Given,
    n: Annotated[
        int,
        typer.Option(
            "--n", help="Samples that are counted; thresholds take as many.", min=1, max=1_000_000
        ),
    ] = 2_000,
    concept: Annotated[
        list[str] | None,
        typer.Option(
            "--concept", "-c", help="Only this concept; repeatable. By default all of them."
        ),
    ] = None,
    quantile: Annotated[
        float,
        typer.Option(help="A unit is on above this quantile of its activation.", min=0, max=1),
    ] = 0.995,
    effect: Annotated[
        bool, typer.Option("--effect/--no-effect", help="Measure what removing each unit does.")
    ] = True,
    effect_n: Annotated[
        int,
        typer.Option(
            "--effect-n", help="Samples for that; each unit takes as many.", min=1, max=10_000
        ),
    ] = 32,
    top: Annotated[
        int, typer.Option("--top", help="Strongest samples kept of each unit.", min=1, max=100)
    ] = 5,
    segmenter: SegmenterName = None,
) -> None:
    """Match every unit with the concepts: IoU, AUC, effect, and the samples it responds to.

    With --layer all every layer is dissected.
    """
    from dissect._utils.device import device_of
    from dissect._utils.distributed import ProcessGroup
    from dissect._utils.io import write_bytes
    from dissect._utils.progress import progress_bar
    from dissect.dissection import DETECTOR, network_dissection, steps, top_images
    from dissect.figures import units_page
    from dissect.hooks import activations
    from dissect.models import latents_for
    from dissect.probe.fit import grid_layers
    from dissect.segmentation import load_segmenter

    printed = Output(as_json=output.as_json, shared=True)
    if not effect:
        given.refuse("with --no-effect", "effect_n")
    group = ProcessGroup.from_environment()
    generator, layer, seed = model.load(), model.layer, output.seed
    reader = load_segmenter(segmenter, device=device_of(generator))
    layers = grid_layers(generator) if layer == "all" else [layer]
    one = latents_for(generator, 1)
    total = sum(activations(generator, name, one).shape[1] for name in layers)
    measured = effect_n if effect else 0
    size = steps(n, total, measured)
    with group.connect(), progress_bar("dissecting", size) as progress:
        found = network_dissection(
            generator,
            layers,
            reader,
            n=n,
            quantile=quantile,
            concepts=concept or (),
            effect_n=measured,
            top=top,
            seed=seed,
            group=group,
            progress=progress,
        )
    if not group.is_main_process:
        return
    printed.wrote(found.save(output.out / "dissection.json"))
    title = f"{model.model}, {'all layers' if layer == 'all' else layer}"
    page = units_page(found, top_images(generator, found), title=title)
    printed.wrote(write_bytes(output.out / "units.html", page.encode()))
    values = {
        "layer": layer,
        "n": n,
        "quantile": quantile,
        "effect_n": measured,
        "seed": seed,
        "n_units": len(found),
        "detector_iou": DETECTOR,
        "detectors": found.detectors(),
        "detectors_shuffled": found.detectors(shuffled=True),
        "concepts": {
            name: {"share": round(share, 6), "iou_ceiling": round(found.max_iou(name), 4)}
            for name, share in zip(found.concepts, found.shown.tolist(), strict=True)
        },
        "auc_error": max(one.auc_error for one in found.layers),
        "units": _rows(found),
    }
    printed.result(values, _text(found))


def _rows(found: "Dissection") -> list[dict[str, Any]]:
    """Each unit with its best concept, the largest IoU first, rounded."""
    rounded = ("iou", "iou_shuffled", "auc", "removed")
    return [
        row
        | {name: round(row[name], 5) if row[name] == row[name] else None for name in rounded}
        | {"threshold": float(f"{row['threshold']:.6g}")}
        for row in found.rows()
    ]


def _text(found: "Dissection") -> str:
    own, chance = found.detectors(), found.detectors(shuffled=True)
    lines = [f"{'concept':<12}{'pixels':>8}{'IoU at most':>13}{'detectors':>11}{'by chance':>11}"]
    for name in sorted(found.concepts, key=lambda name: -own[name]):
        share = found.shown[found.number(name)]
        lines.append(
            f"{name:<12}{share:>8.1%}{found.max_iou(name):>13.2f}{own[name]:>11}{chance[name]:>11}"
        )
    lines += ["", f"{'unit':<18}{'concept':<12}{'IoU':>7}{'chance':>8}{'AUC':>7}{'removed':>9}"]
    rows = _rows(found)
    for row in rows[:_LISTED]:
        auc = "-" if row["auc"] is None else f"{row['auc']:.3f}"
        removed = "-" if row["removed"] is None else f"{row['removed']:.1%}"
        lines.append(
            f"{row['layer'] + ' ' + str(row['unit']):<18}{row['concept'] or 'none':<12}"
            f"{row['iou']:>7.3f}{row['iou_shuffled']:>8.3f}{auc:>7}{removed:>9}"
        )
    if len(rows) > _LISTED:
        lines.append(f"and {len(rows) - _LISTED} more in the files")
    lines.append(
        f"{sum(own.values())} of {len(found)} units are detectors (IoU above 0.05 with their best "
        f"concept); with the masks of other samples {sum(chance.values())} would be"
    )
    return "\n".join(lines)
