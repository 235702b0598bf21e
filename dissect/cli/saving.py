"""`dissect ablate --save`: the edited generator as a file of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dissect._utils.errors import DissectError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dissect.surgery import Intervention

__all__ = ["about_edit", "check_saving", "save_edited", "saved_text"]


def check_saving(
    path: Path | None,
    generator: "nn.Module",
    edit: "Intervention",
    where: str,
    *,
    replace: str = "zero",
    excised: bool,
    force: bool,
) -> None:
    """Refuse what cannot be saved before any work is done, not after it."""
    from dissect.models import Generator

    if path is None:
        if excised:
            raise DissectError("--excise makes a smaller generator: add --save FILE to keep it")
        return
    if where not in ("everywhere", "probe"):
        raise DissectError("one edit is saved: say which with --where everywhere or --where probe")
    if not isinstance(generator, Generator):
        raise DissectError(
            "--save writes generators of dissect; edit others with dissect.bake and save their "
            "state_dict()"
        )
    plain = edit.strength == 1 and replace == "zero" and edit.region is None
    if excised and (where != "everywhere" or not plain):
        raise DissectError(
            "--excise cuts units out for good and everywhere: add --where everywhere, and leave "
            "out --strength, --replace and --region"
        )
    if path.exists() and not force:
        raise DissectError(f"{path} exists already; give another name, or --force to replace it")


def save_edited(
    path: Path,
    generator: "nn.Module",
    edit: "Intervention",
    z: "Tensor",
    *,
    about: Mapping[str, Any],
    excised: bool = False,
    exact: bool = True,
    force: bool = False,
) -> dict[str, Any]:
    """Write the edited generator to `path`, and read it back to see that it draws what it should.

    Args:
        path: the checkpoint.
        generator: before the edit.
        edit: what is done to it.
        z: latents to compare images on.
        about: what else the checkpoint says of the edit.
        excised: cut the units out.
        exact: False prefers plain weights to a module where rounding may differ (see `bake`).
        force: replace a file.

    Returns:
        `how` the edit is written (`weights`, `module` or `excised`), `parameters` before and
        after, and the largest `difference` between the images of the file and those of the
        ablated generator on `z`, on the [-1, 1] scale.
    """
    from dissect.models import fingerprint, generate, load, save_checkpoint
    from dissect.surgery import excise

    edited = excise(generator, edit.units) if excised else edit.bake(generator, exact=exact)
    card = {
        "model": fingerprint(generator),
        "layer": edit.units.layer,
        "units": list(edit.units.indices),
        **about,
    }
    save_checkpoint(path, edited, card={"edit": card}, force=force)
    written = load(path, device=z.device)
    wanted = generate(generator, z, edit=edit)
    difference = float((generate(written, z) - wanted).abs().max())
    return {
        "how": _how(generator, edited, excised=excised),
        "parameters": [_count(generator), _count(edited)],
        "difference": difference,
    }


def about_edit(edit: "Intervention", where: str) -> dict[str, Any]:
    """What a checkpoint says of an ablation."""
    return {
        "rule": edit.units.rule,
        "concept": edit.units.concept,
        "where": where,
        "threshold": edit.threshold if where == "probe" else None,
        "strength": edit.strength,
        "replace": edit.replacement if isinstance(edit.replacement, str) else "mean",
        "in_region": edit.region is not None,
    }


def saved_text(saved: Mapping[str, Any]) -> str:
    """What `save_edited` found, in a line."""
    how = {
        "weights": "written into the weights",
        "module": "written as a small module at the end of the layer",
        "excised": "cut out with every weight that made or read them",
    }[saved["how"]]
    before, after = saved["parameters"]
    size = f"{after:,} parameters" + (f" instead of {before:,}" if after < before else "")
    same = (
        "draws the images of the edit bit for bit"
        if saved["difference"] == 0
        else f"draws the images of the edit within {saved['difference']:.1g}"
    )
    return f"saved: {how}; {size}; the file, read back, {same}"


def _how(
    before: "nn.Module", after: "nn.Module", *, excised: bool
) -> Literal["weights", "module", "excised"]:
    if excised:
        return "excised"
    return "weights" if before.state_dict().keys() == after.state_dict().keys() else "module"


def _count(model: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in model.parameters())
