"""`dissect sample`: a grid of samples."""

from typing import Annotated

import typer

from dissect.cli.options import GeneratorOptions, OutputOptions, with_groups
from dissect.cli.output import Output

__all__ = ["sample"]


@with_groups
def sample(
    model: GeneratorOptions,
    output: OutputOptions,
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
) -> None:
    """Draw a grid of samples."""
    from PIL import Image

    from dissect._utils.images import image_grid, to_images
    from dissect._utils.io import write_image
    from dissect.figures.latent_space import contact_sheet
    from dissect.models import generate, latents_for

    printed = Output(as_json=output.as_json)
    out, seed = output.out, output.seed
    generator = model.load()
    images = to_images(generate(generator, latents_for(generator, n, seed, start=start)))
    columns = max(1, round(n**0.5))
    printed.wrote(write_image(out / "samples.png", image_grid(images, columns=columns, scale=3)))
    if numbered:
        printed.wrote(write_image(out / "contact.png", contact_sheet(images, start=start)))
    if each:
        for index, image in enumerate(images, start):
            path = out / "samples" / f"seed{seed}-{index:06d}.png"
            printed.wrote(write_image(path, Image.fromarray(image)))
    printed.result({"n": n, "seed": seed, "start": start}, f"{n} samples of {model.model}")
