"""Models by what a user writes: a bundled name, a checkpoint file, or `file.py:factory`."""

import difflib
import importlib.util
import inspect
import sys
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dissect._utils.device import resolve_device
from dissect._utils.errors import DissectError
from dissect.models.checkpoint import Network, load_checkpoint

__all__ = [
    "bundled",
    "bundled_file",
    "load",
]


def bundled() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    weights = package_files("dissect.models") / "weights"
    if not weights.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in weights.iterdir() if entry.is_dir()))


def bundled_file(name: str, file: str) -> Path:
    """Where `file` of the bundled model `name` lies.

    Raises:
        DissectError: there is no such model or file.
    """
    path = Path(str(package_files("dissect.models") / "weights" / name / file))
    if not path.is_file():
        known = ", ".join(bundled()) or "none in this installation"
        raise DissectError(f"no bundled {file} of a model {name!r}; bundled models: {known}")
    return path


def load(
    spec: str | Path, *, network: Network = "generator", device: str | torch.device = "cpu"
) -> nn.Module:
    """The model that `spec` names, in eval mode on `device`.

    Args:
        spec: a bundled name (`bedrooms64`), a checkpoint file that dissect wrote, or
            `file.py:factory`, where `factory()` gives any `nn.Module`, or a pair of the module and
            a function (n, seed, start) to latents whose row i depends on (seed, start + i) alone.
        network: which of the two a bundled name stands for.
        device: where the model goes.

    Raises:
        DissectError: nothing of that name, a damaged file, a factory that fails, or a checkpoint
            of the other kind of network.
    """
    place = resolve_device(device)
    name = str(spec)
    file, colon, factory = name.rpartition(":")
    if colon and file.endswith(".py"):
        model = _from_factory(Path(file), factory)
    else:
        path = bundled_file(name, f"{network}.safetensors") if name in bundled() else Path(name)
        if not path.exists():
            raise DissectError(_nothing_there(name))
        model, _ = load_checkpoint(path)
        kind = type(model).__name__.lower()
        if kind != network:
            raise DissectError(f"{name} holds a {kind}, and a {network} is needed here")
    return model.eval().to(place)


def _nothing_there(name: str) -> str:
    near = difflib.get_close_matches(name, bundled(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    known = ", ".join(bundled()) or "none"
    return (
        f"no model {name!r}: neither a bundled name ({known}), nor a file, "
        f"nor file.py:factory{hint}"
    )


def _from_factory(file: Path, name: str) -> nn.Module:
    if not file.is_file():
        raise DissectError(f"no such file: {file} (a factory is given as file.py:function)")
    module_spec = importlib.util.spec_from_file_location(f"_dissect_factory_{file.stem}", file)
    if module_spec is None or module_spec.loader is None:
        raise DissectError(f"{file} cannot be imported as Python")
    module = importlib.util.module_from_spec(module_spec)
    # Dataclasses and the like look their own module up by name while it is executed.
    sys.modules[module_spec.name] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise DissectError(f"importing {file} failed: {type(error).__name__}: {error}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise DissectError(f"{file} has no function {name!r}; it has: {', '.join(known) or 'none'}")
    try:
        made: Any = factory()
    except DissectError:
        raise
    except Exception as error:
        raise DissectError(f"{file}:{name}() failed: {type(error).__name__}: {error}") from error
    model, make_latents = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module) or not (make_latents is None or callable(make_latents)):
        raise DissectError(
            f"{file}:{name}() must return an nn.Module, or (nn.Module, function of n, seed, start)"
        )
    if make_latents is not None:
        model.make_latents = make_latents
    return model
