"""A network that computes the same in less time, for being run many times as it is."""

from copy import deepcopy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["folded"]

_Model = TypeVar("_Model", bound=nn.Module)


def folded(network: _Model) -> _Model:
    """A copy whose batch norms are in the convolutions before them; equal within rounding.

    In evaluation mode a batch norm multiplies each channel and adds to it, which the convolution
    can do by itself. Weights are laid out with the channels last, as processors like them. Its
    parameters take no gradients; what it is given does.

    Args:
        network: in evaluation mode. Only a batch norm that stands right behind a convolution in
            the same `nn.Sequential` is folded.
    """
    copy = deepcopy(network).eval().requires_grad_(False)
    for parent in [module for module in copy.modules() if isinstance(module, nn.Sequential)]:
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if (
                _can_be_folded(conv)
                and isinstance(norm, nn.BatchNorm2d)
                and norm.track_running_stats
            ):
                _fold(conv, norm)  # type: ignore[arg-type]
                setattr(parent, name, nn.Identity())
    return copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _can_be_folded(module: nn.Module) -> bool:
    # The weights of a transposed convolution in groups are laid out in another way.
    return isinstance(module, nn.Conv2d) or (
        isinstance(module, nn.ConvTranspose2d) and module.groups == 1
    )


def _fold(conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
        transpose=isinstance(conv, nn.ConvTranspose2d),
    )
    conv.weight, conv.bias = weight.requires_grad_(False), bias.requires_grad_(False)
