"""`dissect sample`: a grid of samples."""

from pathlib import Path
from typing import Annotated

import typer

from dissect.cli.options import Device, Json, Model, Out, Seed
from dissect.cli.output import Output

__all__ = ["sample"]


def sample(
    model: Model = "bedrooms64",
    n: Annotated[int, typer.Option("--n", help="How many.", min=1, max=10_000)] = 64,
    start: Annotated[int, typer.Option(help="Index of the first latent.", min=0)] = 0,
    each: Annotated[
        bool,
        typer.Option(
            "--each",
            help="Also every sample as a PNG of its own, its name telling its latent, for drawing "
            "boxes with any annotation tool.",
        ),
    ] = False,
    numbered: Annotated[
        bool,
        typer.Option(
            "--numbered",
            help="Also a contact sheet with each sample's index, from which exemplars are picked.",
        ),
    ] = False,
    out: Out = Path("out"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Draw a grid of samples."""
    from PIL import Image

    from dissect._utils.device import resolve_device
    from dissect._utils.images import image_grid, to_images
    from dissect._utils.io import write_image
    from dissect.figures.latent_space import contact_sheet
    from dissect.models import generate, latents_for, load

    output = Output(as_json=as_json)
    generator = load(model, device=resolve_device(device))
    images = to_images(generate(generator, latents_for(generator, n, seed, start=start)))
    columns = max(1, round(n**0.5))
    output.wrote(write_image(out / "samples.png", image_grid(images, columns=columns, scale=3)))
    if numbered:
        output.wrote(write_image(out / "contact.png", contact_sheet(images, start=start)))
    if each:
        for index, image in enumerate(images, start):
            path = out / "samples" / f"seed{seed}-{index:06d}.png"
            output.wrote(write_image(path, Image.fromarray(image)))
    output.result({"n": n, "seed": seed, "start": start}, f"{n} samples of {model}")
