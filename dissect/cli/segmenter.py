"""`dissect train --segmenter`: the segmenter, on renders and their masks."""

from pathlib import Path

from dissect.cli.output import Output
from dissect.errors import DissectError

__all__ = ["train_segmenter"]


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
    elapsed = time.perf_counter() - started
    seconds = round(elapsed)
    card = {"source": source, "images": images, "steps": steps, "batch_size": batch_size}
    path = save_segmenter(
        out / "segmenter.safetensors", network, card={**card, "seed": seed, "seconds": seconds}
    )
    output.wrote(path)
    output.result(
        {"steps": steps, "images_per_s": round(steps * batch_size / elapsed, 1)},
        f"{steps} steps of {batch_size} images in {seconds} s",
    )
