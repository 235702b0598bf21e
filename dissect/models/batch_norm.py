"""Batch norm: its statistics measured anew, and a network in which it is folded away."""

from collections.abc import Iterable
from copy import deepcopy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dissect.models.latents import latents

__all__ = ["fold_batch_norm", "recalibrate", "recalibrate_generator"]

_Model = TypeVar("_Model", bound=nn.Module)

_STATISTICS_SEED, _STATISTICS_BATCHES = 2**31 + 1, 16
# Fewer outputs than this leave lanes of a vector register empty.
_FEW_CHANNELS = 8


@torch.no_grad()
def recalibrate(network: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Set the batch-norm statistics of `network` to those of `inputs`, and its mode to eval.

    The mean and variance of every batch count alike (a cumulative average), and nothing of
    earlier statistics is kept.
    """
    kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
    norms = [module for module in network.modules() if isinstance(module, kinds)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    try:
        for batch in inputs:
            network(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


def recalibrate_generator(generator: nn.Module, latent_size: int, batch_size: int) -> None:
    """Set the batch-norm statistics of an averaged `generator` to those of 16 batches of latents.

    The latents are a series of their own, of which no training latent is one.
    """
    device = next(generator.parameters()).device
    recalibrate(
        generator,
        (
            latents(
                batch_size,
                _STATISTICS_SEED,
                start=index * batch_size,
                size=latent_size,
                device=device,
            )
            for index in range(_STATISTICS_BATCHES)
        ),
    )


def fold_batch_norm(network: _Model) -> _Model:
    """A copy whose batch norms are in the convolutions before them; equal within rounding.

    In evaluation mode a batch norm multiplies each channel and adds to it, which the convolution
    can do by itself. Weights are laid out with the channels last, as processors like them. Its
    parameters take no gradients; what it is given does.

    A transposed convolution of stride 2 to a few colours, which fill a processor's registers badly,
    becomes an ordinary one of the small grid, with four outputs a cell, and a pixel shuffle.

    Args:
        network: in evaluation mode, without hooks. Only what stands in a `nn.Sequential` is
            changed, and only a batch norm is folded that stands right behind a convolution with
            weights of its own, not computed ones.
    """
    copy = deepcopy(network).eval().requires_grad_(False)
    registered = [module for _, module in copy.named_modules(remove_duplicate=False)]
    for parent in [module for module in copy.modules() if isinstance(module, nn.Sequential)]:
        # By place: `children()` passes over a module that has come before.
        for place, (conv, norm) in enumerate(pairwise(list(parent)), 1):
            # A convolution of several places may be followed by another norm in each.
            once = registered.count(conv) == 1
            if isinstance(norm, nn.BatchNorm2d) and once and _fold(conv, norm):
                parent[place] = nn.Identity()
        for place, module in enumerate(list(parent)):
            if _is_to_colours(module):
                parent[place] = _as_pixel_shuffle(module)  # type: ignore[arg-type]
    return copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _fold(conv: nn.Module, norm: nn.BatchNorm2d) -> bool:
    """Whether `norm` could be, and hence is, folded into the module before it."""
    transposed = isinstance(conv, nn.ConvTranspose2d)
    # The weights of a transposed convolution in groups are laid out in another way.
    if not isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) or (transposed and conv.groups > 1):
        return False
    if norm.running_mean is None or norm.running_var is None or not _has_own_weights(conv):
        return False
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
        transpose=transposed,
    )
    conv.weight, conv.bias = weight.requires_grad_(False), bias.requires_grad_(False)
    return True


def _has_own_weights(module: nn.Module) -> bool:
    """Whether the weight is a parameter, not computed from others in every pass."""
    return "weight" in dict(module.named_parameters(recurse=False))


def _is_to_colours(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.ConvTranspose2d)
        and _has_own_weights(module)
        and module.out_channels < _FEW_CHANNELS
        and module.groups == 1
        and module.stride == (2, 2)
        and module.dilation == (1, 1)
        # Those that double the grid and reach one cell to each side.
        and (module.kernel_size, module.padding, module.output_padding)
        in (((4, 4), (1, 1), (0, 0)), ((5, 5), (2, 2), (1, 1)))
    )


def _as_pixel_shuffle(conv: nn.ConvTranspose2d) -> nn.Sequential:
    """The same as a convolution of 3x3 cells with four outputs for each, and their places.

    Output 2i + p is made of the inputs i + d, d from -1 to 1, by the weight at p + padding - 2d.
    """
    before, after, side, _ = conv.weight.shape
    weight = conv.weight.new_zeros(after, 2, 2, before, 3, 3)
    padding = int(conv.padding[0])
    taps = [
        (p, d + 1, p + padding - 2 * d)
        for p in (0, 1)
        for d in (-1, 0, 1)
        if 0 <= p + padding - 2 * d < side
    ]
    for p, row, at_row in taps:
        for q, column, at_column in taps:
            weight[:, p, q, :, row, column] = conv.weight[:, :, at_row, at_column].T
    apart = nn.Conv2d(before, 4 * after, 3, padding=1, bias=conv.bias is not None)
    apart.weight = nn.Parameter(weight.reshape(4 * after, before, 3, 3), requires_grad=False)
    if conv.bias is not None:
        apart.bias = nn.Parameter(conv.bias.repeat_interleave(4), requires_grad=False)
    return nn.Sequential(apart, nn.PixelShuffle(2))
