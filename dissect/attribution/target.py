"""What is attributed: one unit of a layer at one position, in each of some images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import torch
from torch import Tensor, nn

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect.hooks import activations

__all__ = ["Position", "Target", "Unit"]

Unit: TypeAlias = int | Sequence[int] | Tensor
"""A unit for all images, or one for each."""
Position: TypeAlias = Sequence[int] | Sequence[Sequence[int]] | Tensor | None
"""Row and column for all images, or for each; None: where the unit responds most in each."""


@dataclass(frozen=True, repr=False)
class Target(ShortRepr):
    """Images and the entry of a layer's output that is attributed in each.

    Attributes:
        images: (N, ...) on the model's device, outside any graph.
        index: (N, k) int64 on that device: the unit, then its position; k axes but the first.
        device: where the images came from, and attributions go.
    """

    images: Tensor
    index: Tensor
    device: torch.device

    @classmethod
    @torch.inference_mode(False)
    def from_arguments(
        cls,
        model: nn.Module,
        images: Tensor,
        layer: str,
        unit: Unit,
        position: Position,
        batch_size: int,
    ) -> "Target":
        """The target that the arguments of the methods of attribution name.

        Raises:
            DissectError: no images, images that are no floats, no such unit or position, or
                another number of them than of images; and what `activations` raises.
        """
        if not images.is_floating_point() or images.ndim < 2 or not len(images):
            raise DissectError(
                "images must be at least one, as floats (N, C, H, W) in the range that the model "
                f"takes; got {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            )
        device = next(chain(model.parameters(), model.buffers()), images).device
        moved = images.detach().to(device)
        if moved.is_inference():
            moved = moved.clone()
        # One image tells the shape; all are needed only to look for the largest response.
        seen = moved if position is None else moved[:1]
        acts = activations(model, layer, seen, batch_size=batch_size, to="cpu")
        if acts.ndim < 2:
            raise DissectError(f"layer {layer!r} gives one number an image, and so has no units")
        n_units, *grid = acts.shape[1:]
        units = _table(unit, len(images), "unit", 1, single_ndim=0)
        _check_range(units, n_units, f"layer {layer!r} has {n_units} units", "unit")
        if position is None:
            maps = acts[torch.arange(len(acts)), units[:, 0]]
            # A layer without a grid has one position, of no coordinates.
            peaks = torch.unravel_index(maps.flatten(1).argmax(1), grid) if grid else ()
            index = torch.stack([units[:, 0], *peaks], 1)
        else:
            positions = _table(position, len(images), "position", len(grid), single_ndim=1)
            name = f"layer {layer!r} has a grid of {'x'.join(map(str, grid))}"
            for axis, size in enumerate(grid):
                _check_range(positions[:, axis], size, name, "position")
            index = torch.cat([units, positions], 1)
        return cls(moved, index.to(device), images.device)

    def select(self, acts: Tensor) -> Tensor:
        """The attributed entries (N,) of the layer's output (N, C, ...), captum's neuron selector.

        The output may hold the images several times one after the other, as integrated gradients
        stack the points of their paths.
        """
        index = self.index.repeat(len(acts) // len(self.index), 1)
        return acts[(torch.arange(len(acts), device=acts.device), *index.unbind(1))]

    def split(self, size: int) -> Iterator["Target"]:
        """The same in parts of `size` images."""
        for images, index in zip(self.images.split(size), self.index.split(size), strict=True):
            yield Target(images, index, self.device)


def _table(value: Unit | Position, rows: int, name: str, width: int, *, single_ndim: int) -> Tensor:
    """`value` as (rows, width) int64, the same in every row where only one was given."""
    try:
        table = torch.as_tensor(value).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DissectError(f"{name} must be whole numbers, not {value!r}") from error
    if table.is_floating_point() or table.dtype == torch.bool:
        raise DissectError(f"{name} must be whole numbers, not {value!r}")
    if table.ndim == single_ndim and table.numel() == width:
        return table.long().reshape(1, width).expand(rows, width)
    shape = (rows, width)[: 1 + single_ndim]
    if tuple(table.shape) != shape:
        single = "a whole number" if single_ndim == 0 else f"{width} whole numbers"
        raise DissectError(
            f"{name} must be {single}, or one for each of the {rows} images: shape {shape}, "
            f"not {tuple(table.shape)}"
        )
    return table.long().reshape(rows, width)


def _check_range(values: Tensor, size: int, limit: str, name: str) -> None:
    outside = values[(values < 0) | (values >= size)]
    if len(outside):
        raise DissectError(f"{limit}; {name} {int(outside[0])} is not among them (0 is the first)")
