"""The images at which the units of a layer are largest, found in one stream through a source."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect._utils.progress import ProgressCallback, no_progress
from dissect._utils.result import Result
from dissect.data import ImageSource
from dissect.hooks import activations

__all__ = ["MaxActivations", "feature_grid", "max_activations"]


@dataclass(frozen=True, repr=False)
class MaxActivations(Result):
    """For U units, the K images with the largest activations, the largest first.

    The activation of a unit for an image is its maximum over positions.

    Attributes:
        layer: the layer's name.
        total: how many units it has.
        grid: rows and columns of its grid.
        units: the U units.
        activation: (U, K) float32.
        image: (U, K) int64, indices in the source.
        position: (U, K, 2) int64, row and column of the maximum.
    """

    layer: str
    total: int
    grid: tuple[int, int]
    units: tuple[int, ...]
    activation: NDArray[np.float32]
    image: NDArray[np.int64]
    position: NDArray[np.int64]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each unit and image."""
        arrays = (self.activation.tolist(), self.image.tolist(), self.position.tolist())
        return [
            {"unit": unit, "image": image, "activation": activation, "position": position}
            for unit, *columns in zip(self.units, *arrays, strict=True)
            for activation, image, position in zip(*columns, strict=True)
        ]


def max_activations(
    model: nn.Module,
    layer: str,
    source: ImageSource,
    units: Sequence[int] | None = None,
    *,
    k: int = 20,
    count: int | None = None,
    batch_size: int = 100,
    progress: ProgressCallback = no_progress,
) -> MaxActivations:
    """The `k` images of a source at which each unit of a layer is largest.

    Of equal activations, that of the earlier image comes first. Memory holds one batch and the
    best so far.

    Args:
        model: in evaluation mode; takes images (N, 3, H, W) in [-1, 1].
        layer: a layer whose output is (N, C, h, w).
        source: where the images come from.
        units: which units; None: all.
        k: images a unit.
        count: look at the first so many images of the source; None: at all.
        batch_size: images in a forward pass.
        progress: called with how many images were looked at.

    Raises:
        DissectError: no such layer or unit, fewer than `k` images, images that the model does not
            take, or activations that are not finite.

    >>> from torch import nn
    >>> from dissect.data import source
    >>> bedrooms = source("bedrooms", size=16, count=4)
    >>> largest = max_activations(nn.Sequential(nn.AvgPool2d(8)).eval(), "0", bedrooms, k=2)
    >>> largest.grid, largest.position.shape
    ((2, 2), (3, 2, 2))
    """
    total = len(source) if count is None else min(count, len(source))
    if not 1 <= k <= total:
        raise DissectError(
            f"{source.name} offers {total} images, fewer than the {k} strongest asked for"
            if k > total
            else f"at least 1 image a unit must be asked for, not {k}"
        )
    n_units, grid = feature_grid(model, layer, source)
    chosen = tuple(range(n_units)) if units is None else tuple(units)
    if wrong := [unit for unit in chosen if not 0 <= unit < n_units]:
        raise DissectError(
            f"layer {layer!r} has {n_units} units, 0 to {n_units - 1}; there is no {wrong[0]}"
        )
    values = torch.empty(len(chosen), 0)
    images, cells = torch.empty(len(chosen), 0).long(), torch.empty(len(chosen), 0).long()
    for first in range(0, total, batch_size):
        rows = np.arange(first, min(first + batch_size, total))
        acts = activations(model, layer, to_tensor(source.images(rows)), batch_size=batch_size)
        largest, cell = acts[:, list(chosen)].float().flatten(2).max(2)
        if not bool(largest.isfinite().all()):
            raise DissectError(f"layer {layer!r} gives values that are not finite on {source.name}")
        values = torch.cat([values, largest.t().cpu()], 1)
        images = torch.cat([images, torch.from_numpy(rows).expand(len(chosen), -1)], 1)
        cells = torch.cat([cells, cell.t().cpu()], 1)
        # A stable sort, so that of equals the earlier stays.
        values, order = values.sort(dim=1, descending=True, stable=True)
        values, order = values[:, :k], order[:, :k]
        images, cells = images.gather(1, order), cells.gather(1, order)
        progress(len(rows))
    return MaxActivations(
        layer=layer,
        total=n_units,
        grid=grid,
        units=chosen,
        activation=values.numpy(),
        image=images.numpy(),
        position=torch.stack(torch.unravel_index(cells, grid), 2).numpy(),
    )


def feature_grid(model: nn.Module, layer: str, source: ImageSource) -> tuple[int, tuple[int, int]]:
    """How many units the layer has, and its rows and columns, on the source's first image.

    Raises:
        DissectError: no such layer, one without a grid, or images that the model does not take.
    """
    try:
        shape = activations(model, layer, to_tensor(source.images([0]))).shape
    except RuntimeError as error:
        raise DissectError(
            f"{type(model).__name__} does not take images of {source.size} x {source.size} pixels "
            f"in colour: {error}"
        ) from error
    if len(shape) != 4:
        raise DissectError(
            f"layer {layer!r} gives {tuple(shape[1:])} for an image, no units on a grid: choose a "
            "convolution's"
        )
    return shape[1], (shape[2], shape[3])
