"""Foreign generators with an edit that lasts: the edit in a file, with where the model is from."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from dissect import models
from dissect._utils.errors import DissectError
from dissect._utils.schema import FileModel, NonEmpty, parse, read_file, write_file
from dissect.models import Network, fingerprint
from dissect.models.adapter import adapter_of
from dissect.surgery.edit_file import EditFile
from dissect.surgery.excise import excise
from dissect.surgery.intervention import Intervention

__all__ = ["load", "save_edited"]


class _EditedFile(FileModel):
    KIND: ClassVar[str] = "edited generator"

    factory: NonEmpty
    inputs: dict[str, bool | int | float | str | None]
    fingerprint: NonEmpty
    edit: EditFile
    exact: bool = True
    excised: bool = False


def load(
    spec: str | Path,
    *,
    network: Network = "generator",
    device: str | torch.device = "cpu",
    inputs: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The model that `spec` names, in eval mode on `device`.

    Args:
        spec: a bundled name (`bedrooms64`), a checkpoint file that dissect wrote,
            `file.py:factory` (see `dissect.models.load`), or the `edited.json` of an export: the
            factory's generator with the edit written into it again.
        network: which of the two a bundled name stands for.
        device: where the model goes.
        inputs: values of inputs that the generator takes beside latents, by name; text is read as
            the command line's `--input` reads it.

    Raises:
        DissectError: as `dissect.models.load`; or an edit of another generator than the factory
            now gives.

    >>> load("bedrooms64").layers
    ('layer4x4', 'layer8x8', 'layer16x16', 'layer32x32', 'rgb')
    """
    path = Path(spec)
    if path.suffix != ".json" or not path.is_file():
        return models.load(spec, network=network, device=device, inputs=inputs)
    file = read_file(path, _EditedFile)
    factory, _, name = file.factory.rpartition(":")
    values = {**file.inputs, **(inputs or {})}
    model = models.load(f"{path.parent / factory}:{name}", device=device, inputs=values)
    if inputs is None and fingerprint(model) != file.fingerprint:
        raise DissectError(
            f"{path} edits the generator {file.fingerprint}, and {file.factory} now gives "
            f"{fingerprint(model)}: its weights or settings have changed"
        )
    edit = Intervention.from_file(file.edit, str(path))
    return _written(model, edit, exact=file.exact, excised=file.excised)


def save_edited(
    path: str | Path,
    spec: str,
    model: nn.Module,
    edit: Intervention,
    *,
    exact: bool = True,
    excised: bool = False,
    force: bool = True,
) -> Path:
    """`path`, a JSON file, now holding the edit and where the generator comes from.

    Args:
        path: the file.
        spec: `file.py:factory`, by which the model was loaded.
        model: the generator before the edit.
        edit: what is written into it when the file is loaded.
        exact, excised: how, as `Intervention.bake` and `excise` take it.
        force: replace an existing file.

    Raises:
        DissectError: a model that is not of a factory, an edit that the network cannot hold, or a
            file that cannot be written.
    """
    factory, colon, name = spec.rpartition(":")
    if not colon or not factory.endswith(".py"):
        raise DissectError(f"{spec} is no factory: an edit of it is kept as a checkpoint")
    _written(model, edit, exact=exact, excised=excised)
    adapter = adapter_of(model)
    inputs = {} if adapter is None else dict(adapter.inputs)
    if adapter is not None and adapter.noise is not None:
        inputs["noise"] = adapter.noise
    plain = (bool, int, float, str, type(None))
    values = {
        "factory": f"{os.path.relpath(factory, Path(path).resolve().parent)}:{name}",
        # Tensors are set by the factory alone.
        "inputs": {key: value for key, value in inputs.items() if isinstance(value, plain)},
        "fingerprint": fingerprint(model),
        "edit": edit.to_dict(),
        "exact": exact,
        "excised": excised,
    }
    return write_file(path, parse(_EditedFile, values, str(path)), force=force)


def _written(model: nn.Module, edit: Intervention, *, exact: bool, excised: bool) -> nn.Module:
    if excised:
        return excise(model, edit.parts[0].units)
    return edit.bake(model, exact=exact)
