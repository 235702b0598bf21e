"""Models by what a user writes: a bundled name, a checkpoint file, or `file.py:factory`."""

import difflib
import json
from collections.abc import Mapping
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dissect._utils.device import resolve_device
from dissect._utils.errors import DissectError
from dissect._utils.io import read_metadata
from dissect.models.adapter import adapter_or_new
from dissect.models.check import check_generator, set_inputs
from dissect.models.checkpoint import Network, load_checkpoint
from dissect.models.factory import call_factory

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
    spec: str | Path,
    *,
    network: Network = "generator",
    device: str | torch.device = "cpu",
    inputs: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The model that `spec` names, in eval mode on `device`.

    Args:
        spec: a bundled name (`bedrooms64`), a checkpoint file that dissect wrote, the folder of a
            training, or
            `file.py:factory` (see below).
        network: which of the two a bundled name stands for.
        device: where the model goes.
        inputs: values of inputs that the generator takes beside latents, by name; text is read as
            the command line's `--input` reads it.

    Raises:
        DissectError: nothing of that name, a damaged file, a factory that fails, or a checkpoint
            of the other kind of network.

    A factory is a function without arguments in a Python file, which may import what lies beside
    it. It returns an `nn.Module` from latents, uniform in [-1, 1] and of shape
    (N, model.latent_size), to images. A model that takes others comes in a pair with a function of
    (n, seed, start) that gives its latents, the first axis n long; row i must depend on
    (seed, start + i) alone. What else a generator takes and gives, `adapt` says. Two images are
    drawn to check it::

        # my_gan.py, used as `--model my_gan.py:generator`
        def generator():
            model = MyGenerator()
            model.load_state_dict(torch.load("weights.pt", weights_only=True))
            return model, lambda n, seed, start: dissect.latents(
                n, seed, start=start, size=512, distribution="normal"
            )

    Example:
        >>> import dissect
        >>> dissect.load("bedrooms64").layers
        ('layer4x4', 'layer8x8', 'layer16x16', 'layer32x32', 'rgb')
    """
    target = resolve_device(device)
    name = str(spec)
    file, colon, factory = name.rpartition(":")
    if colon and file.endswith(".py"):
        model = _from_factory(Path(file), factory).eval().to(target)
        if network == "generator":
            try:
                set_inputs(model, inputs or {})
                check_generator(model)
            except DissectError as error:
                raise DissectError(f"{name}: {error}") from error
        return model
    path = bundled_file(name, f"{network}.safetensors") if name in bundled() else Path(name)
    if not path.exists():
        raise DissectError(_nothing_there(name))
    if path.is_dir():
        path = _network_of_run(path, network)
    if inputs:
        raise DissectError(f"{name} takes latents alone: leave out {', '.join(inputs)}")
    model, _ = load_checkpoint(path)
    kind = type(model).__name__.lower()
    if kind != network:
        raise DissectError(f"{name} holds a {kind}, and a {network} is needed here")
    return model.eval().to(target)


def _network_of_run(folder: Path, network: Network) -> Path:
    """The file of a training's folder that holds its latest state of a network.

    Raises:
        DissectError: there is none.
    """
    finished = folder / f"{network}.safetensors"
    # Only the averaged generator of a training that has not ended can be used as it is.
    names = [path.stem[5:] for path in folder.glob("step-*.safetensors")]
    newest = max((int(name) for name in names if name.isdecimal()), default=-1)
    newest = newest if network == "generator" else -1
    if finished.is_file():
        card = json.loads(read_metadata(finished).get("card", "{}"))
        if newest <= card.get("steps", newest):
            return finished
    if newest < 0:
        raise DissectError(
            f"{folder} holds no {network}: give a file, or the folder of dissect train"
        )
    return folder / f"step-{newest:07d}.safetensors"


def _nothing_there(name: str) -> str:
    near = difflib.get_close_matches(name, bundled(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    known = ", ".join(bundled()) or "none"
    return (
        f"no model {name!r}: neither a bundled name ({known}), nor a file, "
        f"nor file.py:factory{hint}"
    )


def _from_factory(file: Path, name: str) -> nn.Module:
    returned = call_factory(file, name)
    pair = isinstance(returned, tuple) and len(returned) == 2
    model, make_latents = returned if pair else (returned, None)
    if not isinstance(model, nn.Module) or not (make_latents is None or callable(make_latents)):
        raise DissectError(
            f"{file}:{name}() must return an nn.Module, or (nn.Module, function of n, seed, start)"
        )
    if make_latents is not None:
        adapter_or_new(model).latents = make_latents
    return model
