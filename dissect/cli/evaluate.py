"""`dissect evaluate`: the accuracy of a segmenter, and of an attribute reader."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from dissect._utils.errors import DissectError
from dissect.cli.help import Command
from dissect.cli.options import (
    Boxes,
    Concept,
    FaceGeneratorOptions,
    GeneratorOptions,
    Json,
    Out,
    OutputOptions,
    ReaderName,
    SegmenterName,
    with_groups,
)
from dissect.cli.output import Output

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from dissect.annotations import Annotations
    from dissect.data import RenderedSource
    from dissect.segmentation import AttributeErrors, BoxMatch, Segmenter

__all__ = ["app", "error_table", "error_values"]

# Neither the generator nor the networks were trained on renders of this seed.
_HELD_OUT_SEED = 1
_COLUMNS = 12

app = typer.Typer(no_args_is_help=True, help="Measure a segmenter or an attribute reader.")


@app.command("segmenter", cls=Command)
@with_groups
def evaluate_segmenter(
    model: GeneratorOptions,
    segmenter: SegmenterName = None,
    concept: Concept = "window",
    boxes: Boxes = None,
    n: Annotated[
        int, typer.Option("--n", help="Number of held-out renders.", min=1, max=100_000)
    ] = 2_000,
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """Measure a segmenter on held-out renders, and on samples with boxes drawn by eye."""
    import numpy as np

    from dissect._utils.io import write_image
    from dissect._utils.result import to_plain
    from dissect.annotations import Annotations, annotation_file
    from dissect.data import RenderedSource, source
    from dissect.figures import rasterized
    from dissect.probe.fit import annotated_images
    from dissect.segmentation import evaluate_on_boxes, evaluate_on_renders, load_segmenter

    printed = Output(as_json=as_json)
    network = load_segmenter(segmenter, device=model.resolve())
    network.class_id(concept)
    annotations = Annotations.load(boxes or annotation_file(model.model, concept), concept)
    images = annotated_images(model.load(), annotations)
    match = evaluate_on_boxes(network, images, annotations)
    held_out = cast(RenderedSource, source("bedrooms", count=n, seed=_HELD_OUT_SEED))
    iou = evaluate_on_renders(network, held_out, n)
    figure = _figure(network, iou, held_out, images, annotations, match)
    printed.wrote(write_image(out / "evaluate.png", rasterized(figure)))
    mean = float(np.nanmean(list(iou.values())))
    values = {
        "segmenter": segmenter or "bundled",
        "concept": concept,
        "iou": iou,
        "iou_mean": mean,
        "n_renders": n,
        "n_images": len(annotations),
        "n_boxes": match.n_boxes,
        "recall": match.recall,
        "recall_ci": match.recall_ci,
        "n_negatives": len(match.negatives),
        "false_alarm_rate": match.false_alarm_rate,
        "false_alarm_rate_ci": match.false_alarm_rate_ci,
    }
    lines = [f"{'class':<12}IoU on {n} held-out renders"]
    lines += [f"{name:<12}{score:.3f}" for name, score in iou.items()]
    lines += [f"{'mean':<12}{mean:.3f}", *_box_lines(match, concept, model.model)]
    printed.result(to_plain(values), "\n".join(lines))


def _box_lines(match: "BoxMatch", concept: str, model: str) -> list[str]:
    r_low, r_high = match.recall_ci
    f_low, f_high = match.false_alarm_rate_ci
    return [
        f"{len(match.detected)} annotated samples of {model}:",
        f"{match.n_detected} of {match.n_boxes} {concept} boxes detected, {match.recall:.1%} "
        f"({r_low:.1%} to {r_high:.1%}): at least {match.min_overlap:.0%} of the box",
        f"false alarm on {len(match.false_alarms)} of {len(match.negatives)} samples without a "
        f"box, {match.false_alarm_rate:.1%} ({f_low:.1%} to {f_high:.1%}): at least "
        f"{match.min_area:.2%} of the image",
    ]


def _figure(
    segmenter: "Segmenter",
    iou: dict[str, float],
    held_out: "RenderedSource",
    images: "NDArray[np.uint8]",
    annotations: "Annotations",
    match: "BoxMatch",
) -> "Figure":
    """Renders with their true classes, samples with and without boxes, and the errors on them."""
    import numpy as np

    from dissect._utils.images import to_tensor
    from dissect.figures.segmentation import SegmentationRow, segmentation_figure

    def labels(pixels: "NDArray[np.uint8]") -> "NDArray[np.int64]":
        return segmenter.labels(to_tensor(pixels)).numpy()

    first = np.arange(min(_COLUMNS, len(held_out)))
    renders, masks = held_out.images(first), held_out.masks(first)
    # Class 0 stands for a class that the segmenter does not have.
    known = [
        name if name in segmenter.classes else segmenter.classes[0] for name in held_out.classes
    ]
    true = np.array([segmenter.class_id(name) for name in known])[masks]
    rows = [
        SegmentationRow("held-out render", renders),
        SegmentationRow("its true classes", renders, true),
        SegmentationRow("segmenter", renders, labels(renders)),
    ]
    detected = enumerate(match.detected)
    groups: dict[str, list[int]] = {"sample, box drawn": [], "box missed": []}
    for index, boxes in detected:
        if boxes:
            groups["sample, box drawn" if all(boxes) else "box missed"].append(index)
    false_alarms = list(match.false_alarms)
    negatives = [index for index in match.negatives if index not in match.false_alarms]
    for name, indices in (
        ("sample, box drawn", groups["sample, box drawn"]),
        ("sample, no box", negatives),
        ("box missed", groups["box missed"]),
        ("false alarm", false_alarms),
    ):
        if indices:
            shown = indices[:_COLUMNS]
            drawn = [annotations.boxes[index] for index in shown]
            rows.append(SegmentationRow(name, images[shown], None, drawn))
            rows.append(SegmentationRow("segmenter", images[shown], labels(images[shown]), drawn))
    title = "Classes in the colours of the bars; yellow: boxes drawn by eye"
    return segmentation_figure(rows, segmenter.classes, iou, columns=_COLUMNS, title=title)


@app.command("attributes", cls=Command)
@with_groups
def evaluate_attributes_of(
    model: FaceGeneratorOptions,
    output: OutputOptions,
    reader: ReaderName = "auto",
    readout: Annotated[
        Path | None,
        typer.Option(
            help="The file of an attribute network or a segmenter. The default is the bundled one."
        ),
    ] = None,
    n: Annotated[
        int,
        typer.Option("--n", help="Number of held-out renders; 0 omits them.", min=0, max=100_000),
    ] = 1_000,
    samples: Annotated[
        int,
        typer.Option(
            help="Number of the model's samples whose attributes are listed.", min=1, max=10_000
        ),
    ] = 100,
) -> None:
    """Measure an attribute reader on held-out renders, and list what it reads from samples.

    It writes a numbered contact sheet of the samples (contact.png) and their attributes
    (attributes.json).
    """
    from dissect._utils.images import to_images
    from dissect._utils.io import write_image, write_json
    from dissect.data.synthetic.faces import ATTRIBUTES
    from dissect.figures.latent_space import contact_sheet
    from dissect.latent_space import attribute_reader_for
    from dissect.models import fingerprint, generate, latents_for
    from dissect.segmentation import evaluate_attributes

    printed = Output(as_json=output.as_json)
    out, seed = output.out, output.seed
    attributes = attribute_reader_for(reader, model.model, model.resolve(), readout)
    if attributes is None:
        raise DissectError(f"nothing reads {model.model}: give --reader faces or bedrooms")
    generator = model.load()
    images = generate(generator, latents_for(generator, samples, seed))
    values = attributes.read(images).cpu()
    printed.wrote(write_image(out / "contact.png", contact_sheet(to_images(images))))
    table = {name: values[:, k].tolist() for k, name in enumerate(attributes.names)}
    about = {"model": model.model, "fingerprint": fingerprint(generator), "seed": seed}
    printed.wrote(write_json(out / "attributes.json", {**about, "n": samples, "attributes": table}))
    result: dict[str, Any] = {**about, "samples": samples, "names": list(attributes.names)}
    text = f"{len(attributes.names)} attributes of {samples} samples of {model.model}"
    if n:
        renders = "faces" if attributes.names == ATTRIBUTES else "bedrooms"
        errors = evaluate_attributes(attributes, renders, n=n)
        result |= error_values(errors)
        text = f"{text}; {error_table(errors)}"
    printed.result(result, text)


def error_values(errors: "AttributeErrors") -> dict[str, Any]:
    """The errors by attribute, for JSON."""
    return {
        "n": errors.n,
        "held_out_seed": errors.seed,
        "r_squared": dict(zip(errors.names, errors.r_squared, strict=True)),
        "mean_error": dict(zip(errors.names, errors.mean_error, strict=True)),
    }


def error_table(errors: "AttributeErrors") -> str:
    """The errors by attribute, as lines of text."""
    rows = zip(errors.names, errors.r_squared, errors.mean_error, strict=True)
    lines = [f"  {name:17} {explained:6.3f}  {error:.3f}" for name, explained, error in rows]
    head = f"on {errors.n} held-out renders: R squared, mean absolute error"
    return "\n".join([head, *lines])
