"""`dissect walk`: rows between random latents, and how evenly their images change."""

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import GeneratorOptions, Given, OutputOptions, ReaderName, with_groups
from dissect.cli.output import Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from dissect.latent_space import StepSizes
    from dissect.segmentation import AttributeReader

__all__ = ["walk"]

_DEFAULT_CURVES, _MAX_CURVES = 3, 6
_MOST_IMAGES = 100_000
_FIGURE, _MEASURE = "Figure", "Measurement"
_SIGNED = ("yaw", "pitch")  # not amounts, and therefore no curves by default


@with_groups
def walk(
    model: GeneratorOptions,
    output: OutputOptions,
    given: Given,
    n: Annotated[int, typer.Option("--n", help="Number of rows.", min=1, max=1_000)] = 8,
    path: Annotated[
        str, typer.Option(help="The path between latents: linear (the paper) or spherical.")
    ] = "linear",
    reader: ReaderName = "auto",
    columns: Annotated[
        int,
        typer.Option(help="Number of images in a row.", min=2, max=1_000, rich_help_panel=_FIGURE),
    ] = 10,
    concept: Annotated[
        list[str] | None,
        typer.Option(
            "--concept",
            "-c",
            help="An attribute whose curve is drawn; repeatable, up to six. The default is the "
            "three that vary most.",
            rich_help_panel=_FIGURE,
        ),
    ] = None,
    animate: Annotated[
        bool,
        typer.Option(
            "--gif", help="Also write walk.gif, with all rows in sequence.", rich_help_panel=_FIGURE
        ),
    ] = False,
    substeps: Annotated[
        int,
        typer.Option(
            help="Number of measured steps between two images of a row.",
            min=1,
            max=1_000,
            rich_help_panel=_MEASURE,
        ),
    ] = 4,
    control: Annotated[
        bool,
        typer.Option(
            help="Compare with the walk of a generator that has memorised its training images.",
            rich_help_panel=_MEASURE,
        ),
    ] = True,
    pool: Annotated[
        int,
        typer.Option(
            help="Number of training images that the control searches.",
            min=1,
            max=1_000_000,
            rich_help_panel=_MEASURE,
        ),
    ] = 2_000,
) -> None:
    """Walk between random latents and measure how evenly the images change (section 6.1)."""
    from dissect._utils.images import to_images
    from dissect._utils.io import write_animation, write_image, write_json
    from dissect.figures.latent_space import walk_figure
    from dissect.latent_space import Path as LatentPath
    from dissect.latent_space import attribute_reader_for, interpolation_rows
    from dissect.models import generate, latent_vectors

    printed = Output(as_json=output.as_json)
    if not control:
        given.refuse("with --no-control", "pool")
    out, seed = output.out, output.seed
    generator = model.load()
    attributes = attribute_reader_for(reader, model.model, model.resolve())
    points = (columns - 1) * substeps + 1
    if n * points > _MOST_IMAGES:
        raise DissectError(
            f"{n} rows of {points} latents are more than {_MOST_IMAGES:,} images: lower --n, "
            "--columns or --substeps"
        )
    ends = latent_vectors(generator, n + 1, seed)
    z = interpolation_rows(ends, points, cast(LatentPath, path))
    images = generate(generator, z.flatten(0, 1)).cpu()
    rows = images.unflatten(0, (n, points))
    pixels = to_images(images).reshape(n, points, *images.shape[2:], 3)
    curves: dict[str, NDArray[np.floating[Any]]] = {}
    if attributes is not None:
        values = attributes.read(images).reshape(n, points, -1)
        curves = {name: values[:, :, k].numpy() for k, name in enumerate(attributes.names)}
    shown = _curve_names(curves, concept, attributes)
    steps = {"walk": _step_sizes(rows, attributes)}
    if control:
        steps |= _controls(model.model, rows, pool, attributes, printed)
    figure = walk_figure(pixels[:, ::substeps], {name: curves[name] for name in shown})
    printed.wrote(write_image(out / "walk.png", figure))
    if animate:
        printed.wrote(write_animation(out / "walk.gif", _frames(pixels), milliseconds=60))
    summary = {
        name: {space: sizes.summary() for space, sizes in spaces.items()}
        for name, spaces in steps.items()
    }
    details = {
        "curves": {name: values.tolist() for name, values in curves.items()},
        "steps": {
            name: {space: sizes.to_dict() for space, sizes in spaces.items()}
            for name, spaces in steps.items()
        },
    }
    printed.wrote(write_json(out / "walk.json", details))
    lines = [f"{n} rows of {points} latents each; largest step over mean step, median of rows:"]
    for name, spaces in summary.items():
        parts = ", ".join(f"{sizes['ratio']:.2f} in {space}" for space, sizes in spaces.items())
        lines.append(f"  {name}: {parts}")
    printed.result(
        {
            "n": n,
            "columns": columns,
            "path": path,
            "seed": seed,
            "steps_measured": points - 1,
            "concepts": shown,
            "largest_over_mean": summary,
        },
        "\n".join(lines),
    )


def _step_sizes(rows: "Tensor", reader: "AttributeReader | None") -> dict[str, "StepSizes"]:
    """Steps of rows of images (rows, n, C, H, W) in pixels and, where there are any, features."""
    from dissect.latent_space import step_sizes

    spaces = {"pixels": step_sizes(rows)}
    if reader is not None and reader.features is not None:
        features = reader.features(rows.flatten(0, 1))
        spaces["features"] = step_sizes(features.reshape(*rows.shape[:2], -1))
    return spaces


def _controls(
    model: str, rows: "Tensor", n: int, reader: "AttributeReader | None", printed: Output
) -> dict[str, dict[str, "StepSizes"]]:
    """The same rows from a generator that has memorised its images, and faded in pixel space."""
    from dissect.data import source
    from dissect.latent_space import crossfade_rows, image_source_for, nearest_images

    name = image_source_for(model)
    if name not in ("faces", "bedrooms"):
        printed.note("no control: the model's card names no rendered source")
        return {}
    training = source(name, size=rows.shape[-1], count=n)
    copies = nearest_images(rows.flatten(0, 1), training, n).reshape(rows.shape)
    faded = crossfade_rows(copies[:, [0, -1]], rows.shape[1])
    return {
        "each image replaced by the nearest training image": _step_sizes(copies, reader),
        "fade between the ends' nearest training images": _step_sizes(faded, reader),
    }


def _curve_names(
    curves: dict[str, "NDArray[np.floating[Any]]"],
    concepts: list[str] | None,
    reader: "AttributeReader | None",
) -> list[str]:
    if concepts:
        if reader is None:
            raise DissectError("--concept needs a reader of the model's images; see --reader")
        if len(concepts) > _MAX_CURVES:
            raise DissectError(f"at most {_MAX_CURVES} curves can be drawn beside a row")
        return [reader.names[reader.column(name)] for name in concepts]
    amounts = [name for name in curves if not name.endswith("_side") and name not in _SIGNED]

    def variation(name: str) -> float:
        # Relative to the usual amount; otherwise walls would always precede windows.
        return float(curves[name].std() / max(abs(curves[name].mean()), 1e-3) ** 0.5)

    return sorted(amounts, key=variation, reverse=True)[:_DEFAULT_CURVES]


def _frames(pixels: "NDArray[np.uint8]") -> "list[Image.Image]":
    """The images of all rows, enlarged four times."""
    from PIL import Image

    return [
        Image.fromarray(image).resize(
            (image.shape[1] * 4, image.shape[0] * 4), Image.Resampling.NEAREST
        )
        for number, row in enumerate(pixels)
        for image in row[number > 0 :]  # a row begins where the last one ended
    ]
