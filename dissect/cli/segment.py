"""`dissect segment`: how far the segmenter can be trusted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissect.cli.labels import SegmenterName
from dissect.cli.options import Boxes, Concept, Device, Json, Model, Out
from dissect.cli.output import Output

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from dissect.annotations import Annotations
    from dissect.data import RenderedSource
    from dissect.segmentation import BoxMatch, Segmenter

__all__ = ["segment"]

# Renders of another series than the generator's training and the segmenter's own.
_HELD_OUT_SEED = 1
_COLUMNS = 12


def segment(
    segmenter: SegmenterName = None,
    concept: Concept = "window",
    model: Model = "bedrooms64",
    boxes: Boxes = None,
    renders: Annotated[int, typer.Option(help="Held-out renders to score it on.", min=1)] = 2_000,
    out: Out = Path("out"),
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score the segmenter on held-out renders, and on samples against boxes drawn by eye."""
    from dissect._utils.device import resolve_device
    from dissect._utils.io import write_image
    from dissect.annotations import Annotations, annotation_file
    from dissect.data import RenderedSource, source
    from dissect.figures import rasterized
    from dissect.models import load
    from dissect.probe.fit import annotated_images
    from dissect.segmentation import evaluate_on_boxes, evaluate_on_renders, load_segmenter

    output = Output(as_json=as_json)
    place = resolve_device(device)
    eyes = load_segmenter(segmenter, device=place)
    eyes.class_id(concept)
    annotations = Annotations.load(boxes or annotation_file(model, concept), concept)
    images = annotated_images(load(model, device=place), annotations)
    found = evaluate_on_boxes(eyes, images, annotations)
    held_out = source("bedrooms", count=renders, seed=_HELD_OUT_SEED)
    assert isinstance(held_out, RenderedSource)
    scores = evaluate_on_renders(eyes, held_out, renders)
    figure = _picture(eyes, scores, held_out, images, annotations, found)
    output.wrote(write_image(out / "segment.png", rasterized(figure)))
    mean = sum(scores.values()) / len(scores)
    values = {
        "segmenter": segmenter or "bundled",
        "concept": concept,
        "iou": scores,
        "iou_mean": mean,
        "n_renders": renders,
        "n_images": len(annotations),
        "n_boxes": found.n_boxes,
        "recall": found.recall,
        "recall_ci": list(found.recall_ci),
        "n_without": len(found.negatives),
        "false_alarms": found.false_alarm_rate,
        "false_alarms_ci": list(found.false_alarm_rate_ci),
    }
    lines = [f"{'class':<12}IoU on {renders} renders that were never trained on"]
    lines += [f"{name:<12}{score:.3f}" for name, score in scores.items()]
    lines += [f"{'mean':<12}{mean:.3f}", *_box_lines(found, concept, model)]
    output.result(values, "\n".join(lines))


def _box_lines(found: "BoxMatch", concept: str, model: str) -> list[str]:
    r_low, r_high = found.recall_ci
    a_low, a_high = found.false_alarm_rate_ci
    return [
        f"{len(found.detected)} annotated samples of {model}:",
        f"{found.n_detected} of {found.n_boxes} {concept} boxes found, {found.recall:.1%} "
        f"({r_low:.1%} to {r_high:.1%}): at least {found.min_overlap:.0%} of the box",
        f"false alarm on {len(found.false_alarms)} of {len(found.negatives)} samples without a "
        f"box, {found.false_alarm_rate:.1%} ({a_low:.1%} to {a_high:.1%}): at "
        f"least {found.min_area:.2%} of the image",
    ]


def _picture(
    eyes: "Segmenter",
    scores: dict[str, float],
    held_out: "RenderedSource",
    images: "NDArray[np.uint8]",
    annotations: "Annotations",
    found: "BoxMatch",
) -> "Figure":
    """Renders with their true classes, samples with and without boxes, and where it errs."""
    import numpy as np

    from dissect._utils.images import to_tensor
    from dissect.figures.segmentation import SegmentationRow, segmentation_figure

    def seen(shown: "NDArray[np.uint8]") -> "NDArray[np.int64]":
        return eyes.labels(to_tensor(shown)).numpy()

    first = np.arange(min(_COLUMNS, len(held_out)))
    renders, masks = held_out.images(first), held_out.masks(first)
    true = np.array([_number(eyes, name) for name in held_out.classes])[masks]
    rows = [
        SegmentationRow("held-out render", renders),
        SegmentationRow("its true classes", renders, true),
        SegmentationRow("segmenter", renders, seen(renders)),
    ]
    missed = [place for place, boxes in enumerate(found.detected) if not all(boxes)]
    groups = {
        "sample, box drawn": [
            place for place, boxes in enumerate(found.detected) if boxes and all(boxes)
        ],
        "sample, no box": [place for place in found.negatives if place not in found.false_alarms],
        "box missed": missed,
        "false alarm": list(found.false_alarms),
    }
    for name, places in groups.items():
        if places:
            chosen = places[:_COLUMNS]
            boxes = [annotations.boxes[place] for place in chosen]
            rows.append(SegmentationRow(name, images[chosen], None, boxes))
            rows.append(SegmentationRow("segmenter", images[chosen], seen(images[chosen]), boxes))
    title = "Classes in the colours of the bars; yellow: boxes drawn by eye"
    return segmentation_figure(rows, eyes.classes, scores, columns=_COLUMNS, title=title)


def _number(eyes: "Segmenter", name: str) -> int:
    # Class 0 stands in for what the segmenter has no word for.
    return eyes.classes.index(name) if name in eyes.classes else 0
