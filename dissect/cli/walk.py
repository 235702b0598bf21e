"""`dissect walk`: rows between random latents, and how evenly their pictures change."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import Device, Json, Model, Out, Seed
from dissect.cli.output import Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from dissect.latent_space import StepSizes
    from dissect.segmentation import AttributeReader

__all__ = ["Reader", "walk"]

Reader = Annotated[
    str,
    typer.Option(
        help="What reads the images: faces (attributes), bedrooms (areas, by the segmenter), "
        "none, or auto: by what the model was trained on."
    ),
]
_SHOWN_CONCEPTS, _MOST_CONCEPTS = 3, 6


def walk(
    model: Model = "bedrooms64",
    rows: Annotated[int, typer.Option(help="Rows, one more point than that.", min=1)] = 8,
    columns: Annotated[int, typer.Option(help="Images in a row.", min=2)] = 10,
    path: Annotated[str, typer.Option(help="Path: linear (the paper) or spherical.")] = "linear",
    between: Annotated[
        int, typer.Option(help="Steps measured from one shown image to the next.", min=1)
    ] = 4,
    reader: Reader = "auto",
    concept: Annotated[
        list[str] | None,
        typer.Option(
            "--concept", "-c", help="Draw its curve, of up to six; by default three that vary most."
        ),
    ] = None,
    control: Annotated[
        int,
        typer.Option(help="Images of the training source compared with; 0: none.", min=0),
    ] = 2_000,
    animate: Annotated[
        bool, typer.Option("--gif", help="Also walk.gif, all rows one after another.")
    ] = False,
    out: Out = Path("out"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Walk between random latents and measure how evenly the pictures change (section 6.1)."""
    from dissect._utils.device import resolve_device
    from dissect._utils.images import to_images
    from dissect._utils.io import write_image, write_json
    from dissect.figures.latent_space import walk_figure
    from dissect.latent_space import attribute_reader_for, interpolation_rows
    from dissect.models import generate, latents_for, load

    output = Output(as_json=as_json)
    place = resolve_device(device)
    generator = load(model, device=place)
    eyes = attribute_reader_for(reader, model, place)
    fine = (columns - 1) * between + 1
    z = interpolation_rows(latents_for(generator, rows + 1, seed), fine, path)  # type: ignore[arg-type]
    images = generate(generator, z.flatten(0, 1)).cpu()
    by_row = images.unflatten(0, (rows, fine))
    pictures = to_images(images).reshape(rows, fine, *images.shape[2:], 3)
    curves = _curves(eyes, images, rows, fine)
    shown = _chosen(curves, concept, eyes)
    sizes = {"walk": _sizes(by_row, eyes)}
    if control:
        sizes |= _controls(model, by_row, control, eyes, output)
    figure = walk_figure(pictures[:, ::between], {name: curves[name] for name in shown})
    output.wrote(write_image(out / "walk.png", figure))
    if animate:
        output.wrote(_gif(out / "walk.gif", pictures))
    measured: dict[str, Any] = {
        name: {space: _summary(size) for space, size in found.items()}
        for name, found in sizes.items()
    }
    details = {name: values.tolist() for name, values in curves.items()}
    steps = {
        name: {space: {"mean": size.mean, "largest": size.largest} for space, size in found.items()}
        for name, found in sizes.items()
    }
    output.wrote(write_json(out / "walk.json", {"curves": details, "steps": steps}))
    lines = [f"{rows} rows of {fine} latents each; largest step over mean step, median of rows:"]
    for name, found in measured.items():
        parts = ", ".join(f"{value['ratio']:.2f} in {space}" for space, value in found.items())
        lines.append(f"  {name}: {parts}")
    output.result(
        {
            "n": rows * columns,
            "rows": rows,
            "columns": columns,
            "path": path,
            "seed": seed,
            "steps_measured": fine - 1,
            "concepts": shown,
            "largest_over_mean": measured,
        },
        "\n".join(lines),
    )


def _sizes(by_row: "Tensor", reader: "AttributeReader | None") -> dict[str, "StepSizes"]:
    """Steps of rows of images (rows, n, C, H, W) in pixels, and in features where there are any."""
    from dissect.latent_space import step_sizes

    found = {"pixels": step_sizes(by_row)}
    if reader is not None and reader.features is not None:
        features = reader.features(by_row.flatten(0, 1))
        found["features"] = step_sizes(features.reshape(*by_row.shape[:2], -1))
    return found


def _summary(size: "StepSizes") -> dict[str, float]:
    count = len(size.mean)
    return {
        "ratio": round(size.ratio, 4),
        "mean": sum(size.mean) / count,
        "largest": sum(size.largest) / count,
    }


def _controls(
    model: str, by_row: "Tensor", n: int, reader: "AttributeReader | None", output: Output
) -> dict[str, dict[str, "StepSizes"]]:
    """The same rows as a memorising generator would show them, and faded in pixel space."""
    from dissect.data import source
    from dissect.latent_space import crossfade_rows, image_source_for, nearest_images

    name = image_source_for(model)
    if name not in ("faces", "bedrooms"):
        output.note("no control: the model's card names no rendered source")
        return {}
    opened = source(name, size=by_row.shape[-1], count=n)
    copies = nearest_images(by_row.flatten(0, 1), opened, n).reshape(by_row.shape)
    faded = crossfade_rows(copies[:, [0, -1]], by_row.shape[1])
    return {
        "each image replaced by the nearest training image": _sizes(copies, reader),
        "fade between the ends' nearest training images": _sizes(faded, reader),
    }


def _curves(
    reader: "AttributeReader | None", images: "Tensor", rows: int, fine: int
) -> dict[str, "NDArray[np.floating[Any]]"]:
    if reader is None:
        return {}
    values = reader.read(images).reshape(rows, fine, -1)
    return {name: values[:, :, k].numpy() for k, name in enumerate(reader.names)}


def _chosen(
    curves: dict[str, "NDArray[np.floating[Any]]"],
    wanted: list[str] | None,
    reader: "AttributeReader | None",
) -> list[str]:
    if wanted:
        if reader is None:
            raise DissectError("--concept needs a reader of the model's images; see --reader")
        if len(wanted) > _MOST_CONCEPTS:
            raise DissectError(f"at most {_MOST_CONCEPTS} curves can be told apart beside a row")
        return [reader.names[reader.column(name)] for name in wanted]
    shares = [name for name in curves if not name.endswith("_side") and name not in _SIGNED]

    def change(name: str) -> float:
        # Against its usual amount, or walls would always come before windows.
        return float(curves[name].std() / max(abs(curves[name].mean()), 1e-3) ** 0.5)

    return sorted(shares, key=change, reverse=True)[:_SHOWN_CONCEPTS]


_SIGNED = ("yaw", "pitch")  # a curve of them is no amount


def _gif(path: Path, pictures: "NDArray[np.uint8]") -> Path:
    from PIL import Image

    from dissect._utils.io import write_animation

    frames = [
        Image.fromarray(image).resize(
            (image.shape[1] * 4, image.shape[0] * 4), Image.Resampling.NEAREST
        )
        for place, row in enumerate(pictures)
        for image in row[place > 0 :]  # a row begins where the last one ended
    ]
    return write_animation(path, frames, milliseconds=60)
