"""`dissect segment`: the class of every pixel of samples, or of the images of a source."""

from typing import TYPE_CHECKING, Annotated

import typer

from dissect.cli.options import GeneratorOptions, Given, OutputOptions, SegmenterName, with_groups
from dissect.cli.output import Output

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["segment"]

_COLUMNS, _MAX_SHOWN = 4, 24
_BATCH = 100


@with_groups
def segment(
    model: GeneratorOptions,
    output: OutputOptions,
    given: Given,
    source: Annotated[
        str | None,
        typer.Argument(
            help="A source of images, such as bedrooms or folder:PATH (see `dissect data info`). "
            "The default is samples of --model."
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Number of images.", min=1, max=10_000)] = 24,
    size: Annotated[
        int, typer.Option(help="Side of a source's images, in pixels.", min=1, max=1_024)
    ] = 64,
    segmenter: SegmenterName = None,
) -> None:
    """Give every pixel of images a class.

    It writes up to 24 images, each beside its classes (segment.png), the class numbers of all
    pixels (segment.safetensors), and the fraction of each image that a class covers
    (segment.json).
    """
    import json

    import numpy as np
    import torch

    from dissect._utils.images import image_grid, to_images
    from dissect._utils.io import write_image, write_json, write_tensors
    from dissect.figures.segmentation import overlay_classes
    from dissect.segmentation import load_segmenter

    printed = Output(as_json=output.as_json)
    if source is None:
        given.refuse("without a SOURCE", "size")
    else:
        given.refuse("with a SOURCE", "model")
        if ":" in source:
            given.refuse(f"with {source}, which is not rendered", "seed")
    out, seed = output.out, output.seed
    network = load_segmenter(segmenter, device=model.resolve())
    images = _images(source, model, n, size, seed)
    labels = torch.cat([network.labels(part).cpu() for part in images.split(_BATCH)])
    pixels = to_images(images)
    colours = overlay_classes(pixels, labels.numpy(), network.classes)
    pairs = np.concatenate([pixels, colours], 2)[:_MAX_SHOWN]
    printed.wrote(write_image(out / "segment.png", image_grid(pairs, columns=_COLUMNS, scale=2)))
    numbers = {"labels": labels.to(torch.uint8 if len(network.classes) <= 256 else torch.int32)}
    metadata = {"classes": json.dumps(network.classes)}
    printed.wrote(write_tensors(out / "segment.safetensors", numbers, metadata))
    areas = torch.stack([(labels == k).float().mean((1, 2)) for k in range(len(network.classes))])
    table = dict(zip(network.classes, areas.tolist(), strict=True))
    of = source or model.model
    values = {"of": of, "n": len(images), "seed": seed, "segmenter": segmenter or "bundled"}
    printed.wrote(write_json(out / "segment.json", {**values, "areas": table}))
    mean = dict(zip(network.classes, areas.mean(1).tolist(), strict=True))
    lines = [f"mean area of each class over {len(images)} images of {of}:"]
    lines += [f"  {name:<12}{area:6.1%}" for name, area in mean.items()]
    printed.result({**values, "mean_area": mean}, "\n".join(lines))


def _images(source: str | None, model: GeneratorOptions, n: int, size: int, seed: int) -> "Tensor":
    """Images (N, 3, H, W) in [-1, 1]: the first `n` of a source, or samples of a model."""
    from dissect._utils.images import to_tensor
    from dissect.data import source as load_source
    from dissect.models import generate, latents_for

    if source is None:
        generator = model.load()
        return generate(generator, latents_for(generator, n, seed))
    # Only rendered sources have a seed.
    images = load_source(source, size=size, count=n, seed=seed)
    return to_tensor(images.images(range(len(images))))
