"""`dissect train-segmenter`: a segmenter, on renders and their masks."""

import time
from typing import Annotated, Any

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import DeviceOptions, TrainingOutputOptions, with_groups
from dissect.cli.output import Output

__all__ = ["train_segmenter"]

# Samples that it adapts to: of a seed that nothing is chosen or measured on.
_SAMPLES, _SAMPLE_SEED = 3_000, 77
# About what is written at the end, to be found out before images are rendered.
_NETWORK_BYTES = 2**22


@with_groups
def train_segmenter(
    device: DeviceOptions,
    output: TrainingOutputOptions,
    source: Annotated[
        str, typer.Argument(help="A rendered source, whose masks are known: bedrooms.")
    ] = "bedrooms",
    images: Annotated[int, typer.Option(help="How many renders to train on.", min=2)] = 40_000,
    steps: Annotated[int, typer.Option(help="Steps of training.")] = 2_100,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 32,
    finetune_on: Annotated[
        str | None,
        typer.Option(
            help="A generator (a bundled name, a file, or file.py:factory): the last third of the "
            "steps also uses its samples, labelled by the segmenter itself.",
            metavar="MODEL",
        ),
    ] = None,
) -> None:
    """Train a segmenter on a rendered source and write segmenter.safetensors."""
    from dissect._utils.io import check_writable
    from dissect._utils.progress import progress_bar
    from dissect.data import RenderedSource
    from dissect.data import source as open_source
    from dissect.models import generate, latents_for, load
    from dissect.segmentation import save_unet
    from dissect.training.segmenter import SegmenterConfig, train_segmenter

    printed = Output(as_json=output.as_json)
    out, seed = output.out, output.seed
    check_writable(out, _NETWORK_BYTES)
    opened = open_source(source, count=images)
    if not isinstance(opened, RenderedSource):
        raise DissectError(f"a segmenter needs masks, and {source} has none: use bedrooms")
    place = device.resolve()
    config = SegmenterConfig(steps=steps, batch_size=batch_size, seed=seed)
    samples = None
    if finetune_on is not None:
        generator = load(finetune_on, device=place)
        z = latents_for(generator, _SAMPLES, _SAMPLE_SEED)
        samples = generate(generator, z).clamp(-1, 1)
    started = time.perf_counter()
    with progress_bar("training", steps) as progress:
        network = train_segmenter(opened, config, samples=samples, device=place, progress=progress)
    elapsed = time.perf_counter() - started
    card: dict[str, Any] = {"source": source, "images": images}
    card |= {"steps": steps, "batch_size": batch_size}
    if finetune_on is not None:
        card |= {"adapted_to": finetune_on, "samples": _SAMPLES, "sample_seed": _SAMPLE_SEED}
    card |= {"seed": seed, "seconds": round(elapsed)}
    printed.wrote(save_unet(out / "segmenter.safetensors", network, card=card))
    printed.result(
        {"steps": steps, "images_per_s": round(steps * batch_size / elapsed, 1)},
        f"{steps} steps of {batch_size} images in {elapsed:.0f} s",
    )
