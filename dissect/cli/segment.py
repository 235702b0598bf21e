"""`dissect segment`: how far the segmenter can be trusted; and its training."""

from pathlib import Path
from typing import Annotated

import typer

from dissect.cli.options import Boxes, Concept, Device, Json, Model
from dissect.cli.output import Output
from dissect.cli.probe import open_boxes
from dissect.errors import DissectError

__all__ = ["segment", "train_segmenter"]

HELD_OUT = 1_000
# Renders of another series than the generator's and than the segmenter's own training.
HELD_OUT_SEED = 1


def segment(
    segmenter: Annotated[
        Path | None, typer.Option("--segmenter", help="Weights; the bundled ones by default.")
    ] = None,
    concept: Concept = "window",
    model: Model = "bedrooms64",
    boxes: Boxes = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score the segmenter on held-out renders, and on generated samples against drawn boxes."""
    from dissect.annotated import annotated_images
    from dissect.data import RenderedSource, source
    from dissect.models import load, resolve_device
    from dissect.segment import Segmenter, box_score, load_segmenter, render_score

    output = Output(as_json=as_json)
    place = resolve_device(device)
    network, card = load_segmenter(segmenter, device=place)
    eyes = Segmenter.of(network)
    renders = source(str(card.get("source", "bedrooms")), count=HELD_OUT, seed=HELD_OUT_SEED)
    assert isinstance(renders, RenderedSource)
    scores = render_score(eyes, renders, HELD_OUT)
    mean = sum(scores.values()) / len(scores)
    generator = load(model, device=place)
    annotations = open_boxes(boxes, model, concept)
    found = box_score(eyes, annotated_images(generator, annotations), annotations)
    lines = [f"{'class':<12}IoU on {HELD_OUT} held-out renders"]
    lines += [f"{name:<12}{score:.3f}" for name, score in scores.items()]
    lines += [
        f"{'mean':<12}{mean:.3f}",
        f"on {len(annotations)} samples of {model}: {found.n_found} of {found.n_boxes} {concept} "
        f"boxes found (at least {found.inside:.0%} of the box), false alarm on {found.n_alarms} "
        f"of {found.n_without} samples without one (at least {found.pixels} pixels)",
    ]
    values = {
        "iou": scores,
        "iou_mean": mean,
        "n_renders": HELD_OUT,
        "n_boxes": found.n_boxes,
        "recall": found.recall,
        "n_without": found.n_without,
        "false_alarms": found.false_alarms,
    }
    output.result(values, "\n".join(lines))


def train_segmenter(
    source: str,
    images: int,
    steps: int,
    batch_size: int,
    seed: int,
    device: str,
    out: Path,
    output: Output,
) -> None:
    """Train a segmenter on a rendered source and write segmenter.safetensors."""
    import time

    from dissect.data import RenderedSource
    from dissect.data import source as open_source
    from dissect.models import resolve_device
    from dissect.progress import progress_bar
    from dissect.segment import save_segmenter
    from dissect.training.segmenter import SegmenterConfig, train_segmenter

    opened = open_source(source, count=images)
    if not isinstance(opened, RenderedSource):
        raise DissectError(f"a segmenter needs masks, and {source} has none: use bedrooms")
    config = SegmenterConfig(steps=steps, batch_size=batch_size, seed=seed)
    started = time.perf_counter()
    with progress_bar("training", steps) as advance:

        def watch(step: int, loss: float, rate: float) -> None:
            text = f"{rate:.0f} images/s, loss {loss:.3f}"
            advance(10, text)
            if step % 100 == 0:
                output.note(f"step {step} of {steps}: {text}")

        network = train_segmenter(opened, config, device=resolve_device(device), watch=watch)
    seconds = round(time.perf_counter() - started)
    card = {"source": source, "images": images, "steps": steps, "batch_size": batch_size}
    path = save_segmenter(
        out / "segmenter.safetensors", network, card={**card, "seed": seed, "seconds": seconds}
    )
    output.wrote(path)
    output.result(
        {"steps": steps, "images_per_s": round(steps * batch_size / seconds, 1)},
        f"{steps} steps of {batch_size} images in {seconds} s",
    )
