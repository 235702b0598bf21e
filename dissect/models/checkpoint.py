"""Networks as safetensors files: weights, and a JSON header that says what they are."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.io import halved, read_tensors, write_tensors
from dissect.models.adapter import adapter_of
from dissect.models.batch_norm import recalibrate_generator
from dissect.models.dcgan import Discriminator, Generator
from dissect.models.gated import GatedEdit
from dissect.models.settings import settings

__all__ = ["Network", "check_saveable", "fingerprint", "load_checkpoint", "save_checkpoint"]

Network = Literal["generator", "discriminator"]

_FORMAT, _TRAINING_FORMAT = "dissect-1", "dissect-training-1"
_CLASSES: dict[str, type[Generator] | type[Discriminator]] = {
    "generator": Generator,
    "discriminator": Discriminator,
}
# A width or an image size beyond these is a damaged header, not a network.
_LARGEST = {"latent_size": 65_536, "width": 8_192, "image_size": 4_096, "channels": 1_024}


def fingerprint(model: nn.Module) -> str:
    """16 hexadecimal digits that stand for the model's weights, names and shapes.

    Values are compared as float32, so that a copy on another device or in another memory format
    has the same fingerprint. Plain attributes of modules of a user's own count, too. Further inputs
    of an adapted model follow by name, as in `0f3a58c1d2e4b697 label=3 psi=0.7`: the same weights
    draw other images of the same latents then.

    >>> model = Generator(width=4)
    >>> len(fingerprint(model)), fingerprint(model) == fingerprint(Generator(width=4))
    (16, False)
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    adapter = adapter_of(model)
    volatile = frozenset[str]() if adapter is None else adapter.volatile
    for name, text in sorted(settings(model).items()):
        if name not in volatile:
            digest.update(f"{name}={text}\n".encode())
    inputs = "" if adapter is None else adapter.text()
    return f"{digest.hexdigest()[:16]} {inputs}".rstrip()


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    *,
    card: Mapping[str, Any] | None = None,
    half: bool = False,
    force: bool = True,
) -> Path:
    """`path`, now holding `model` as safetensors with its configuration.

    Args:
        path: the file, replaced atomically.
        model: one of the paper's networks.
        card: what else there is to say of it (how it was trained), kept in the header as JSON.
        half: keep floating-point weights as float16, half the size; batch-norm variances, which
            are divided by, and gated edits, which would open elsewhere, stay in float32.
        force: replace an existing file.

    Raises:
        DissectError: the file cannot be written, or exists and `force` is off; or the model is
            neither a `Generator` nor a `Discriminator`, or was changed in a way that its
            configuration does not tell.

    >>> import tempfile
    >>> model = Generator(width=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_checkpoint(f"{folder}/small.safetensors", model)
    ...     again, card = load_checkpoint(path)
    >>> fingerprint(again) == fingerprint(model)
    True
    """
    if not isinstance(model, Generator | Discriminator):
        raise DissectError(
            f"a checkpoint of dissect holds a Generator or a Discriminator, not a "
            f"{type(model).__name__}; save its state_dict() with safetensors or torch.save"
        )
    network = "generator" if isinstance(model, Generator) else "discriminator"
    _check_config(model, network)
    tensors = model.state_dict()
    if half:
        gates = tuple(
            f"{n}." for n, module in model.named_modules() if isinstance(module, GatedEdit)
        )
        tensors = halved(
            tensors, lambda name: name.endswith("running_var") or name.startswith(gates)
        )
    about = {
        "format": _FORMAT,
        "network": network,
        "config": json.dumps(model.config),
        "card": json.dumps(dict(card or {})),
    }
    return write_tensors(path, tensors, about, force=force)


def load_checkpoint(path: str | Path) -> tuple[Generator | Discriminator, dict[str, Any]]:
    """The network that `path` holds, in eval mode and float32 on the CPU, and its card.

    Nothing is unpickled. Every name and shape is checked against the network that the header
    describes. Of a checkpoint of a training it is the averaged generator, its batch-norm
    statistics measured anew: within rounding what the end of the training would save.

    Raises:
        DissectError: the file is absent, truncated, damaged, or not a checkpoint of dissect.
    """
    tensors, about = read_tensors(path)
    training = about.get("format") == _TRAINING_FORMAT
    if training:
        tensors, about = _averaged(path, tensors, about)
    if about.get("format") != _FORMAT or about.get("network") not in _CLASSES:
        raise DissectError(
            f"{path} is a safetensors file but not a dissect checkpoint; for foreign weights give "
            "a factory, file.py:function"
        )
    try:
        config, card = json.loads(about["config"]), json.loads(about["card"])
        model = _build(about["network"], config)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DissectError(f"{path} is damaged: its configuration cannot be read") from error
    except DissectError as error:
        raise DissectError(f"{path} is damaged: {error}") from error
    expected = model.state_dict()
    for name, value in expected.items():
        if name not in tensors or tensors[name].shape != value.shape:
            raise DissectError(f"{path} is damaged: {name} is missing or has another shape")
        if tensors[name].is_floating_point() and not bool(tensors[name].isfinite().all()):
            raise DissectError(f"{path} is damaged: {name} holds values that are not numbers")
    if extra := sorted(set(tensors) - set(expected)):
        raise DissectError(f"{path} is damaged: it holds an unknown tensor {extra[0]!r}")
    own = {name: value.to(expected[name].dtype) for name, value in tensors.items()}
    model.load_state_dict(own, assign=True)
    if training:
        recalibrate_generator(model, config["latent_size"], card["training"]["batch_size"])
    return model.eval(), card


def _averaged(
    path: str | Path, tensors: dict[str, Tensor], about: dict[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The averaged generator of a checkpoint of a training, as one of a network."""
    try:
        settings, steps = json.loads(about["config"]), int(about["step"])
        config = {name: settings[name] for name in ("latent_size", "image_size", "kernel")}
        config["width"] = settings["generator_width"]
        _check_size("latent_size", settings["batch_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise DissectError(f"{path} is damaged: its settings cannot be read") from error
    prefix = "average."
    own = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}
    return own, {
        "format": _FORMAT,
        "network": "generator",
        "config": json.dumps(config),
        "card": json.dumps({"training": settings, "steps": steps}),
    }


def _check_config(model: Generator | Discriminator, network: str) -> None:
    """Refuse a network that `load_checkpoint` could not build again."""
    wanted = {
        name: value.shape for name, value in _build(network, model.config).state_dict().items()
    }
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    for name in (*wanted, *shapes):
        if wanted.get(name) != shapes.get(name):
            raise DissectError(
                f"this {network} is not of the shape that its checkpoint can describe ({name}): "
                "save its state_dict() with safetensors or torch.save, and keep the code that "
                "built it"
            )


def check_saveable(network: Network, config: dict[str, Any]) -> None:
    """Find out, without building it, that a network of this configuration can be saved.

    Raises:
        DissectError: it cannot be built, or a size is beyond what a checkpoint may say.
    """
    try:
        _build(network, config)
    except ValueError as error:
        name = str(error)
        raise DissectError(
            f"a {network} of {name} {config.get(name)} cannot be saved: a checkpoint holds at most "
            f"{_LARGEST.get(name)}"
        ) from error


def _build(network: str, config: dict[str, Any]) -> Generator | Discriminator:
    for name, value in config.items():
        if name == "widths":
            for width in value:
                _check_size("width", width)
        elif name == "edits":
            for edit in value:
                _check_edit(edit)
        else:
            _check_size(name, value)
    # Weights come from the file: building on "meta" draws and allocates none.
    with torch.device("meta"):
        return _CLASSES[network](**config)


def _check_size(name: str, value: object) -> None:
    if not isinstance(value, int) or not 0 < value <= _LARGEST.get(name, 5):
        raise ValueError(name)


def _check_edit(edit: Mapping[str, Any]) -> None:
    if not isinstance(edit["layer"], str) or not isinstance(edit["probe"], bool):
        raise ValueError("edits")
    if not isinstance(edit["threshold"], int | float):
        raise ValueError("edits")
    if not isinstance(edit["strength"], int | float | None):
        raise ValueError("edits")
    if edit["grid"] is not None:
        height, width = edit["grid"]
        _check_size("image_size", height)
        _check_size("image_size", width)
