"""The images to which the units of a layer respond most, found in one stream through a source."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect._utils.progress import ProgressCallback, no_progress
from dissect.data import ImageSource
from dissect.hooks import activations

__all__ = ["Responses", "grid_of", "strongest"]


@dataclass(frozen=True)
class Responses:
    """For U units, the K images with the largest responses, the largest first.

    A unit's response to an image is its largest value there.

    Attributes:
        layer: the layer's name.
        total: how many units it has.
        grid: rows and columns of its grid.
        units: the U units.
        value: (U, K) float32, the responses.
        image: (U, K) int64, indices in the source.
        place: (U, K, 2) int64, row and column of the maximum.
    """

    layer: str
    total: int
    grid: tuple[int, int]
    units: tuple[int, ...]
    value: NDArray[np.float32]
    image: NDArray[np.int64]
    place: NDArray[np.int64]

    def first(self, k: int) -> "Responses":
        """The same with the `k` largest of each unit."""
        cut = (self.value[:, :k], self.image[:, :k], self.place[:, :k])
        return Responses(self.layer, self.total, self.grid, self.units, *cut)


def strongest(
    model: nn.Module,
    layer: str,
    source: ImageSource,
    units: Sequence[int] | None = None,
    *,
    k: int = 20,
    count: int | None = None,
    batch_size: int = 100,
    progress: ProgressCallback = no_progress,
) -> Responses:
    """The `k` images of a source to which each unit of a layer responds most.

    Of equal responses, the one to the earlier image comes first. The stream holds one batch and
    the best so far.

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
            take, or responses that are not numbers.
    """
    total = len(source) if count is None else min(count, len(source))
    if not 1 <= k <= total:
        raise DissectError(
            f"{source.name} offers {total} images, fewer than the {k} strongest asked for"
            if k > total
            else f"at least 1 image a unit must be asked for, not {k}"
        )
    n_units, grid = grid_of(model, layer, source)
    chosen = tuple(range(n_units)) if units is None else tuple(units)
    if wrong := [unit for unit in chosen if not 0 <= unit < n_units]:
        raise DissectError(
            f"layer {layer!r} has {n_units} units, 0 to {n_units - 1}; there is no {wrong[0]}"
        )
    values = torch.empty(len(chosen), 0)
    images, places = torch.empty(len(chosen), 0).long(), torch.empty(len(chosen), 0).long()
    for rows in _in_batches(total, batch_size):
        acts = activations(model, layer, to_tensor(source.images(rows)), batch_size=batch_size)
        largest, at = acts[:, list(chosen)].float().flatten(2).max(2)
        if not bool(largest.isfinite().all()):
            raise DissectError(
                f"layer {layer!r} gives values that are not numbers on {source.name}"
            )
        values = torch.cat([values, largest.t().cpu()], 1)
        images = torch.cat([images, torch.from_numpy(rows).expand(len(chosen), -1)], 1)
        places = torch.cat([places, at.t().cpu()], 1)
        # A stable sort, so that of equals the earlier stays.
        values, order = values.sort(dim=1, descending=True, stable=True)
        values, order = values[:, :k], order[:, :k]
        images, places = images.gather(1, order), places.gather(1, order)
        progress(len(rows))
    row, column = places // grid[1], places % grid[1]
    return Responses(
        layer=layer,
        total=n_units,
        grid=grid,
        units=chosen,
        value=values.numpy(),
        image=images.numpy(),
        place=torch.stack([row, column], 2).numpy(),
    )


def grid_of(model: nn.Module, layer: str, source: ImageSource) -> tuple[int, tuple[int, int]]:
    """How many units the layer has, and its grid, on the source's first image.

    Raises:
        DissectError: no such layer, one without a grid, or images that the model does not take.
    """
    image = to_tensor(source.images([0]))
    _check_channels(model, image)
    try:
        shape = activations(model, layer, image).shape
    except RuntimeError as error:
        raise DissectError(
            f"{type(model).__name__} does not take images of {source.size} x {source.size} pixels: "
            f"{error}"
        ) from error
    if len(shape) != 4:
        raise DissectError(
            f"layer {layer!r} gives {tuple(shape[1:])} for an image, no units on a grid: choose a "
            "convolution's"
        )
    return shape[1], (shape[2], shape[3])


def _check_channels(model: nn.Module, image: Tensor) -> None:
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels != image.shape[1]:
        raise DissectError(
            f"{type(model).__name__} takes images of {first.in_channels} channels, not of "
            f"{image.shape[1]}: is it a discriminator?"
        )


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first weight lies; the CPU for a model without any."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device


def _in_batches(total: int, size: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, total, size):
        yield np.arange(first, min(first + size, total))
