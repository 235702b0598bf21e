"""Training that begins with finished networks: as wide, on other images, or wider than they were.

The widening of Chen, Goodfellow and Shlens 2016, "Net2Net" (arXiv 1511.05641), with one difference:
added units are drawn anew rather than copied, and what was there takes nothing from them at first.
So the wider network begins with the function of the narrower one, and has nothing twice.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.models import load
from dissect.training.average import update_average
from dissect.training.state import TrainState

__all__ = ["begin_with", "widen"]


def begin_with(state: TrainState, folder: Path) -> None:
    """Give a run that has not begun the networks that another has left in `folder`.

    Those of `state` may be wider: the units that were there come first in every layer.

    Raises:
        DissectError: a file is missing or damaged, or a network is not of a shape that fits.
    """
    generator = load(folder / "generator.safetensors", network="generator")
    discriminator = load(folder / "discriminator.safetensors", network="discriminator")
    widen(generator, state.generator)
    widen(discriminator, state.discriminator)
    update_average(state.average, state.generator, 0.0)


def widen(narrow: nn.Module, wide: nn.Module) -> None:
    """Let `wide` compute what `narrow` does, and keep its own weights in the units it has more.

    Both are of one class. Unit k of a layer of `narrow` becomes unit k of that layer of `wide`,
    whose other units give these nothing; what they are given, and their weights, stay.

    Raises:
        DissectError: the networks differ in more than their widths, or `wide` is the narrower one.
    """
    mine, theirs = dict(wide.named_modules()), dict(narrow.named_modules())
    shapes = {name: value.shape for name, value in wide.state_dict().items()}
    for name, value in narrow.state_dict().items():
        if name not in shapes or not _holds(shapes[name], value.shape):
            there = tuple(shapes[name]) if name in shapes else "nothing"
            raise DissectError(
                f"this {type(wide).__name__.lower()} cannot begin with that one: {name} is "
                f"{tuple(value.shape)} there and {there} here; give the same image size, kernel "
                "and latent size, and widths at least as large"
            )
    if set(shapes) != set(narrow.state_dict()):
        raise DissectError(
            f"this {type(wide).__name__.lower()} cannot begin with that one: it has other layers"
        )
    with torch.no_grad():
        for name, module in theirs.items():
            for part, value in module.named_parameters(recurse=False):
                _lay_in(mine[name], part, value)
            for part, value in module.named_buffers(recurse=False):
                _lay_in(mine[name], part, value)


def _lay_in(module: nn.Module, part: str, value: Tensor) -> None:
    """`value` at the beginning of every axis of the module's tensor `part`."""
    target: Tensor = getattr(module, part)
    if value.ndim >= 2:
        # (output, input, ...), but for the transposed convolutions of a generator.
        output = 1 if isinstance(module, nn.ConvTranspose2d) else 0
        target.narrow(output, 0, value.shape[output]).zero_()
    target[tuple(slice(side) for side in value.shape)] = value


def _holds(wide: torch.Size, narrow: torch.Size) -> bool:
    """Whether a tensor has room for another, whose kernels, if it has any, are as large."""
    if len(wide) != len(narrow) or wide[2:] != narrow[2:]:
        return False
    return all(more >= less for more, less in zip(wide, narrow, strict=True))
