"""The control of attribution: the same network with random weights."""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dissect._utils.images import to_tensor
from dissect.data import ImageSource
from dissect.hooks import plain_copy
from dissect.models.batch_norm import recalibrate

__all__ = ["random_init_copy"]

_Model = TypeVar("_Model", bound=nn.Module)
_CALIBRATION_BATCHES, _CALIBRATION_BATCH = 8, 100


def random_init_copy(
    model: _Model, source: ImageSource, seed: int = 0, *, count: int | None = None
) -> _Model:
    """The model's architecture with weights as training begins with them, in evaluation mode.

    Weights are drawn from N(0, 0.02), batch norm's scales from N(1, 0.02), and biases are 0
    (Radford et al. 2015, section 4); batch norm's statistics are those of the source's images, as
    those of the model are.

    Args:
        model: any module; it is copied, and the copy's parameters are drawn anew.
        source: images for the statistics: 800 of the first `count`, or fewer where there are.
        seed: of the weights.
        count: how many images of the source count; None: all.
    """
    copy = plain_copy(model)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in copy.named_parameters():
            if parameter.ndim < 2 and not name.endswith("weight"):
                parameter.zero_()
                continue
            mean = 0.0 if parameter.ndim >= 2 else 1.0
            parameter.copy_(torch.empty(parameter.shape).normal_(mean, 0.02, generator=random))
    total = len(source) if count is None else min(count, len(source))
    recalibrate(copy, _batches(source, total, next(model.parameters(), torch.empty(0)).device))
    return copy


def _batches(source: ImageSource, total: int, device: torch.device) -> Iterator[Tensor]:
    # Spread over the images, for those of a folder may be sorted.
    step = max(1, total // (_CALIBRATION_BATCHES * _CALIBRATION_BATCH))
    rows = np.arange(0, total, step)[: _CALIBRATION_BATCHES * _CALIBRATION_BATCH]
    order = np.random.default_rng(0).permutation(rows)
    for part in np.array_split(order, -(-len(order) // _CALIBRATION_BATCH)):
        yield to_tensor(source.images(part), device)
