"""The exponential moving average of a generator, which samples better than the last step."""

import torch
from torch import nn

__all__ = ["update_average"]


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move each parameter of `average` towards `network`'s by the fraction 1 - `decay`.

    Batch-norm statistics are not averaged: they belong to the network's own weights. Measure them
    for the averaged weights with `models.batch_norm.recalibrate`.
    """
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
