"""`dissect attributes`: what samples show, and how far the reading can be trusted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import Device, Json, Model, Out, Seed
from dissect.cli.output import Output
from dissect.cli.walk import Reader

if TYPE_CHECKING:
    from dissect.segmentation import AttributeErrors

__all__ = ["attributes", "error_table", "error_values"]


def attributes(
    model: Model = "faces64",
    n: Annotated[int, typer.Option("--n", help="How many samples.", min=1, max=10_000)] = 100,
    held_out: Annotated[
        int,
        typer.Option(
            help="Instead, print the reader's error on so many renders that it has not seen.",
            min=0,
        ),
    ] = 0,
    network: Annotated[
        Path | None,
        typer.Option(
            help="The file of an attribute network or a segmenter, instead of the bundled one."
        ),
    ] = None,
    reader: Reader = "auto",
    out: Out = Path("out"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """A numbered contact sheet of samples with the attributes that are read from them."""
    from dissect._utils.device import resolve_device
    from dissect._utils.images import to_images
    from dissect._utils.io import write_image, write_json
    from dissect.data.synthetic.faces import ATTRIBUTES
    from dissect.figures.latent_space import contact_sheet
    from dissect.latent_space import attribute_reader_for
    from dissect.models import fingerprint, generate, latents_for, load
    from dissect.segmentation import evaluate_attributes

    output = Output(as_json=as_json)
    place = resolve_device(device)
    eyes = attribute_reader_for(reader, model, place, network)
    if eyes is None:
        raise DissectError(f"nothing reads {model}: give --reader faces or bedrooms")
    if held_out:
        renders = "faces" if eyes.names == ATTRIBUTES else "bedrooms"
        found = evaluate_attributes(eyes, renders, n=held_out)
        output.result(error_values(found), error_table(found))
        return
    generator = load(model, device=place)
    images = generate(generator, latents_for(generator, n, seed))
    values = eyes.read(images).cpu()
    output.wrote(write_image(out / "contact.png", contact_sheet(to_images(images))))
    table = {name: values[:, k].tolist() for k, name in enumerate(eyes.names)}
    about = {"model": model, "fingerprint": fingerprint(generator), "seed": seed, "n": n}
    output.wrote(write_json(out / "attributes.json", {**about, "attributes": table}))
    output.result(
        {**about, "names": list(eyes.names)},
        f"{len(eyes.names)} attributes of {n} samples of {model}: {', '.join(eyes.names)}",
    )


def error_values(found: "AttributeErrors") -> dict[str, Any]:
    """The held-out errors for `--json`."""
    return {
        "n": found.n,
        "seed": found.seed,
        "r_squared": dict(zip(found.names, found.r_squared, strict=True)),
        "mean_error": dict(zip(found.names, found.mean_error, strict=True)),
    }


def error_table(found: "AttributeErrors") -> str:
    """The held-out errors as a table, a row an attribute."""
    rows = zip(found.names, found.r_squared, found.mean_error, strict=True)
    lines = [f"  {name:17} {share:6.3f}  {error:.3f}" for name, share, error in rows]
    head = f"on {found.n} renders of series {found.seed}: R squared, mean absolute error"
    return "\n".join([head, *lines])
