"""`dissect train --segmenter`: the segmenter, on renders and their masks."""

from pathlib import Path
from typing import Any

from dissect._utils.errors import DissectError
from dissect.cli.output import Output

__all__ = ["train_segmenter"]

# Samples that it gets used to: of a seed that nothing is chosen or measured on.
_SAMPLES, _SAMPLE_SEED = 3_000, 77


def train_segmenter(
    source: str,
    images: int,
    steps: int,
    batch_size: int,
    seed: int,
    adapt_to: str | None,
    device: str,
    out: Path,
    output: Output,
) -> None:
    """Train a segmenter on a rendered source, and on samples of `adapt_to`; write it."""
    import time

    from dissect._utils.device import resolve_device
    from dissect._utils.progress import progress_bar
    from dissect.data import RenderedSource
    from dissect.data import source as open_source
    from dissect.models import generate, latents_for, load
    from dissect.segmentation import save_unet
    from dissect.training.segmenter import SegmenterConfig, train_segmenter

    opened = open_source(source, count=images)
    if not isinstance(opened, RenderedSource):
        raise DissectError(f"a segmenter needs masks, and {source} has none: use bedrooms")
    place = resolve_device(device)
    config = SegmenterConfig(steps=steps, batch_size=batch_size, seed=seed)
    samples = None
    if adapt_to is not None:
        generator = load(adapt_to, device=place)
        z = latents_for(generator, _SAMPLES, _SAMPLE_SEED)
        samples = generate(generator, z).clamp(-1, 1)
    started = time.perf_counter()
    with progress_bar("training", steps) as advance:

        def watch(step: int, loss: float, rate: float) -> None:
            text = f"{rate:.0f} images/s, loss {loss:.3f}"
            advance(10, text)
            if step % 100 == 0:
                output.note(f"step {step} of {steps}: {text}")

        network = train_segmenter(opened, config, samples=samples, device=place, watch=watch)
    elapsed = time.perf_counter() - started
    seconds = round(elapsed)
    card: dict[str, Any] = {"source": source, "images": images}
    card |= {"steps": steps, "batch_size": batch_size}
    if adapt_to is not None:
        card |= {"adapted_to": adapt_to, "samples": _SAMPLES, "sample_seed": _SAMPLE_SEED}
    path = save_unet(
        out / "segmenter.safetensors", network, card={**card, "seed": seed, "seconds": seconds}
    )
    output.wrote(path)
    output.result(
        {"steps": steps, "images_per_s": round(steps * batch_size / elapsed, 1)},
        f"{steps} steps of {batch_size} images in {seconds} s",
    )
