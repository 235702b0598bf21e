"""`dissect data`: the image sources, and what prepares them."""

from pathlib import Path
from typing import Annotated

import typer

from dissect._utils.errors import DissectError
from dissect.cli.help import Command
from dissect.cli.options import Json, Out, Seed
from dissect.cli.output import Output

__all__ = ["app"]

app = typer.Typer(invoke_without_command=True, help="List the sources of images, or prepare one.")

Spec = Annotated[
    str, typer.Argument(help="The source: bedrooms, faces, folder:PATH, lsun:PATH and so on.")
]
Size = Annotated[
    int, typer.Option(help="Width and height of the images, in pixels.", min=1, max=4_096)
]
Count = Annotated[
    int | None, typer.Option(help="Use only so many images, the first ones; by default all.", min=1)
]


@app.callback()
def sources(context: typer.Context, as_json: Json = False) -> None:
    """List the sources of images, or prepare one."""
    if context.invoked_subcommand is not None:
        if as_json:
            raise DissectError(
                f"--json does nothing before {context.invoked_subcommand}: write it behind"
            )
        return
    from dissect.data import cache_folder, source_kinds

    kinds = source_kinds()
    width = max(len(kind.spec) for kind in kinds)
    lines = [f"{kind.spec:{width}}  {kind.summary}" for kind in kinds]
    table = [{"spec": kind.spec, "summary": kind.summary} for kind in kinds]
    try:
        cache = str(cache_folder())
    except DissectError:
        cache = None
    Output(as_json=as_json).result(
        {"sources": table, "cache": cache}, "\n".join([*lines, f"cache: {cache}"])
    )


@app.command("info", cls=Command)
def info(
    spec: Spec, count: Count = None, size: Size = 64, seed: Seed = 0, as_json: Json = False
) -> None:
    """Print how many images a source has, and which of its files cannot be read."""
    from dissect.data import source

    output = Output(as_json=as_json)
    opened = source(spec, size=size, count=count, seed=seed)
    skipped: dict[str, str] = dict(getattr(opened, "skipped", {}))
    for name, reason in skipped.items():
        output.note(f"skipped {name}: {reason}")
    output.result(
        {"source": spec, "n_images": len(opened), "size": size, "skipped": skipped},
        f"{len(opened)} images of {size} x {size} pixels, {len(skipped)} skipped",
    )


@app.command("pack", cls=Command)
def pack(spec: Spec, count: Count = None, size: Size = 64, as_json: Json = False) -> None:
    """Decode a folder or an LSUN database into the cache, where `dissect train --pack` reads it."""
    from dissect.data import PackedSource, source

    output = Output(as_json=as_json)
    packed = PackedSource(source(spec, size=size, count=count))
    for name, reason in packed.skipped.items():
        output.note(f"skipped {name}: {reason}")
    for path in packed.cache_files:
        output.wrote(path)
    n_bytes = sum(path.stat().st_size for path in packed.cache_files)
    output.result(
        {
            "n_images": len(packed),
            "source": spec,
            "size": size,
            "bytes": n_bytes,
            "n_skipped": len(packed.skipped),
            "skipped": packed.skipped,
        },
        f"{len(packed)} images of {size} x {size} pixels in {n_bytes / 1e6:.1f} MB, "
        f"{len(packed.skipped)} could not be read",
    )


@app.command("render", cls=Command)
def render(
    spec: Annotated[str, typer.Argument(help="A rendered source: bedrooms or faces.")],
    count: Annotated[int, typer.Option(help="How many images to render.", min=1)] = 50_000,
    size: Size = 64,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Also write PNG images and masks into this folder."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Render images and masks into the cache, and with --out also as PNG files."""
    from dissect.data import RenderedSource, source
    from dissect.data.export import export

    output = Output(as_json=as_json)
    opened = source(spec, size=size, count=count, seed=seed)
    if not isinstance(opened, RenderedSource):
        raise DissectError(f"{spec} is read, not rendered; bedrooms is rendered")
    for path in opened.cache_files if out is None else export(opened, out):
        output.wrote(path)
    values = {"source": spec, "size": size, "seed": seed, "classes": list(opened.classes)}
    output.result(
        {"n_images": count, **values},
        f"{count} images and masks of {size} x {size} pixels, seed {seed}",
    )


@app.command("faces", cls=Command)
def faces(
    path: Annotated[
        Path, typer.Argument(help="The folder of photographs; folders inside it count, too.")
    ],
    size: Size = 64,
    smallest: Annotated[
        int | None,
        typer.Option(
            help="The least side of a detected face, in pixels; by default --size.", min=24
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Space around the detected box, as a fraction of its side.")
    ] = 0.2,
    out: Out = Path("out/faces"),
    as_json: Json = False,
) -> None:
    """Crop the faces of photographs with OpenCV's detector, as section 4.2 of the paper has it."""
    from dissect.data.crop import crop_faces

    output = Output(as_json=as_json)
    cropped = crop_faces(path, out, size=size, smallest=smallest or max(size, 24), margin=margin)
    for name, reason in cropped.skipped.items():
        output.note(f"skipped {name}: {reason}")
    for written in cropped.files:
        output.wrote(written)
    values = {
        "n_images": cropped.n_images,
        "n_faces": len(cropped.files),
        "n_too_small": cropped.n_too_small,
        "n_without_faces": cropped.n_without_faces,
        "skipped": dict(cropped.skipped),
    }
    output.result(
        values,
        f"{len(cropped.files)} faces of {cropped.n_images} images; {cropped.n_too_small} more were "
        f"too small, {cropped.n_without_faces} images show none",
    )
