"""`dissect export`: an edit written into a generator's checkpoint, or kept beside its factory."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import ModelOptions, OutputOptions, with_groups
from dissect.cli.output import Output

if TYPE_CHECKING:
    from torch import nn

    from dissect.surgery import Intervention

__all__ = ["export"]

_CHECKED = 100


@with_groups
def export(
    edit: Annotated[
        Path, typer.Argument(help="The edit.json of ablate, insert, swap, search or the studio.")
    ],
    model: ModelOptions,
    output: OutputOptions,
    file: Annotated[
        Path | None,
        typer.Option(
            help="The file. Without it, edited.safetensors in the --out folder; of a factory's "
            "generator edited.json, which names the factory."
        ),
    ] = None,
    excise: Annotated[
        bool,
        typer.Option(
            "--excise",
            help="Cut removed units out with every weight that makes or reads them: smaller and "
            "faster.",
        ),
    ] = False,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact/--plain",
            help="Write the edit bit for bit, with a small module where the weights cannot hold "
            "it; or prefer plain weights, equal within rounding.",
        ),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write an edit into a generator, and read the file back to compare its images."""
    printed = Output(as_json=output.as_json)
    of_factory = ".py:" in model.model
    path = file or output.out / f"edited.{'json' if of_factory else 'safetensors'}"
    if path.exists() and not force:
        raise DissectError(f"{path} exists already; give another name, or --force to replace it")
    from dissect.models import Generator, fingerprint, generate, latents_for, save_checkpoint
    from dissect.surgery import Intervention
    from dissect.surgery.edited import load, save_edited

    edits = Intervention.load(edit)
    generator = model.load()
    for part in edits.parts:
        part.units.check(fingerprint(generator), part.units.layer, part.units.channels)
    edited = _excised(generator, edits) if excise else edits.bake(generator, exact=exact)
    if of_factory:
        kept = save_edited(
            path, model.model, generator, edits, exact=exact, excised=excise, force=force
        )
    elif isinstance(generator, Generator):
        card = {"edited_from": fingerprint(generator), "edit": edits.to_dict()}
        kept = save_checkpoint(path, edited, card=card, force=force)
    else:
        raise DissectError(f"{model.model} was edited before: join the edits, and export them both")
    printed.wrote(kept)
    z = latents_for(generator, _CHECKED, output.seed)
    written = load(path, device=z.device)
    difference = (generate(written, z) - generate(generator, z, edit=edits)).abs().max().item()
    how = "excised" if excise else _how(generator, edited)
    parameters = [_count(generator), _count(edited)]
    values: dict[str, Any] = {
        "layers": list(edits.layers),
        "how": how,
        "parameters": parameters,
        "difference": difference,
        "n_samples": _CHECKED,
        "seed": output.seed,
    }
    printed.result(values, _text(how, parameters, difference))


def _excised(generator: "nn.Module", edit: "Intervention") -> "nn.Module":
    from dissect.surgery import excise

    part = edit.parts[0]
    plain = part.strength == 1 and isinstance(part.replacement, str)
    everywhere = part.where is None and part.unit_strengths is None
    if len(edit.parts) > 1 or not plain or not everywhere:
        raise DissectError(
            "--excise cuts units out for good and everywhere: the edit must remove units of one "
            "layer at strength 1, without a gate or a region (dissect ablate --where everywhere)"
        )
    return excise(generator, part.units)


def _text(how: str, parameters: list[int], difference: float) -> str:
    written = {
        "weights": "written into the weights",
        "module": "written as a small module at the end of the layer",
        "excised": "cut out with every weight that made or read the units",
    }[how]
    before, after = parameters
    size = f"{after:,} parameters" + (f" instead of {before:,}" if after < before else "")
    same = "bit for bit" if difference == 0 else f"within {difference:.1g}"
    return f"{written}; {size}; the file, read back, gives the images of the edit {same}"


def _how(before: "nn.Module", after: "nn.Module") -> str:
    return "weights" if before.state_dict().keys() == after.state_dict().keys() else "module"


def _count(model: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in model.parameters())
