"""The exponential moving average of a generator, which samples better than the last step."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["recalibrate", "update_average"]


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move each parameter of `average` towards `network`'s by the share 1 - `decay`.

    Batch-norm statistics are not averaged: they belong to the network's own weights. Measure them
    for the averaged weights with `recalibrate`.
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)


@torch.no_grad()
def recalibrate(network: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Set the batch-norm statistics of `network` to those of `inputs`, and its mode to eval.

    The mean and variance of every batch count alike (a cumulative average), and nothing of
    earlier statistics is kept.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
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
