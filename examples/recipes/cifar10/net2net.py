"""Networks that begin with finished ones: as wide, on other images, or wider than they were.

The widening of Chen, Goodfellow and Shlens 2016, "Net2Net" (arXiv 1511.05641), with one difference:
added units are freshly drawn rather than copied, and the earlier units take nothing from them at
first. So the wider network begins with the function of the narrower one.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.models import load
from dissect.training import TrainState
from dissect.training.average import update_average

__all__ = ["init_from", "net2wider"]


def init_from(state: TrainState, folder: Path) -> None:
    """Give a new run the networks that another run left in `folder`; those of `state` may be wider.

    Raises:
        DissectError: a file is missing or damaged, or a network is not of a shape that fits.
    """
    net2wider(load(folder / "generator.safetensors", network="generator"), state.generator)
    net2wider(
        load(folder / "discriminator.safetensors", network="discriminator"), state.discriminator
    )
    update_average(state.average, state.generator, 0.0)


def net2wider(narrow: nn.Module, wide: nn.Module) -> None:
    """Let `wide` compute what `narrow` does, and keep its own weights in the units it has more.

    Both are of one class. Unit k of a layer of `narrow` becomes unit k of that layer of `wide`. The
    other units of `wide` keep their weights; the first ones take nothing from them.

    Raises:
        DissectError: the networks differ in more than their widths, or `wide` is the narrower one.
    """
    kind = type(wide).__name__.lower()
    shapes = {name: value.shape for name, value in wide.state_dict().items()}
    for name, value in narrow.state_dict().items():
        if name not in shapes or not _fits(shapes[name], value.shape):
            here = tuple(shapes[name]) if name in shapes else "absent"
            raise DissectError(
                f"this {kind} cannot start from that one: {name} is {tuple(value.shape)} there and "
                f"{here} here; use the same image size, kernel and latent size, and widths at "
                "least as large"
            )
    if set(shapes) != set(narrow.state_dict()):
        raise DissectError(f"this {kind} cannot start from that one: it has other layers")
    modules = dict(wide.named_modules())
    with torch.no_grad():
        for name, module in narrow.named_modules():
            for part, value in (
                *module.named_parameters(recurse=False),
                *module.named_buffers(recurse=False),
            ):
                _copy_into(modules[name], part, value)


def _copy_into(module: nn.Module, part: str, value: Tensor) -> None:
    """Copy `value` to the beginning of every axis of the module's tensor `part`."""
    target: Tensor = getattr(module, part)
    if value.ndim >= 2:
        # (output, input, ...), but for the transposed convolutions of a generator.
        output = 1 if isinstance(module, nn.ConvTranspose2d) else 0
        target.narrow(output, 0, value.shape[output]).zero_()
    target[tuple(slice(side) for side in value.shape)] = value


def _fits(wide: torch.Size, narrow: torch.Size) -> bool:
    """Whether a tensor has room for another, with kernels of the same size."""
    if len(wide) != len(narrow) or wide[2:] != narrow[2:]:
        return False
    return all(more >= less for more, less in zip(wide, narrow, strict=True))
