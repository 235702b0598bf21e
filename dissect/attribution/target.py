"""What is attributed: one unit of a layer at one place, in each of some images."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.hooks import activations

__all__ = ["Place", "Target", "Unit", "peaks"]

Unit: TypeAlias = int | Sequence[int] | Tensor
"""A unit for all images, or one for each."""
Place: TypeAlias = Sequence[int] | Sequence[Sequence[int]] | Tensor | None
"""Row and column for all images, or for each; None: where the unit responds most in each."""


@dataclass(frozen=True)
class Target:
    """Images and the entry of a layer's output that is attributed in each.

    Attributes:
        images: (N, ...) on the model's device, outside any graph.
        index: (N, k) int64 on that device: the unit, then its place; k axes but the first.
    """

    images: Tensor
    index: Tensor

    @classmethod
    @torch.inference_mode(False)
    def of(
        cls,
        model: nn.Module,
        images: Tensor,
        layer: str,
        unit: Unit,
        place: Place,
        *,
        batch_size: int,
    ) -> "Target":
        """The target that the arguments of the functions of this room name.

        Raises:
            DissectError: no images, images that are no floats, no such unit or place, or another
                number of them than of images; and what `activations` raises.
        """
        if not images.is_floating_point() or images.ndim < 2 or not len(images):
            raise DissectError(
                "images must be at least one, as floats (N, C, H, W) in the range that the model "
                f"takes; got {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            )
        device = next(chain(model.parameters(), model.buffers()), images).device
        ours = images.detach().to(device)
        if ours.is_inference():
            ours = ours.clone()
        seen = ours[:1] if place is not None else ours
        acts = activations(model, layer, seen, batch_size=batch_size)
        if acts.ndim < 2:
            raise DissectError(f"layer {layer!r} gives one number an image, and so has no units")
        units = _column(unit, len(images), "unit").squeeze(1)
        _check(units, acts.shape[1], f"layer {layer!r} has {acts.shape[1]} units", "unit")
        if place is None:
            places = peaks(acts, units)
        else:
            places = _column(place, len(images), "place", acts.ndim - 2)
        for axis, size in enumerate(acts.shape[2:]):
            grid = "x".join(map(str, acts.shape[2:]))
            _check(places[:, axis], size, f"layer {layer!r} has a grid of {grid}", "place")
        return cls(ours, torch.cat([units.unsqueeze(1), places], 1).to(device))

    def split(self, size: int) -> list["Target"]:
        """The same in parts of `size` images."""
        parts = zip(self.images.split(size), self.index.split(size), strict=True)
        return [Target(images, index) for images, index in parts]


def peaks(acts: Tensor, units: Tensor) -> Tensor:
    """Where each unit responds most: (N, k - 1) places, int64, the first of equal ones.

    Args:
        acts: (N, C, ...), a layer's output; k axes but the first.
        units: (N,) int64, the unit of each row.
    """
    maps = acts[torch.arange(len(acts)), units.to(acts.device)]
    flat = maps.flatten(1).argmax(1) if maps.ndim > 1 else maps.new_zeros(len(maps)).long()
    places = torch.unravel_index(flat, maps.shape[1:]) if maps.ndim > 1 else ()
    return torch.stack(places, 1).cpu() if places else torch.empty(len(maps), 0).long()


def _column(value: Unit | Place, rows: int, what: str, width: int = 1) -> Tensor:
    """`value` as (rows, width), the same in every row where only one was given."""
    try:
        table = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DissectError(f"{what} must be whole numbers, not {value!r}") from error
    single = table.ndim == (0 if what == "unit" else 1)
    wanted = (rows,) if what == "unit" else (rows, width)
    if table.is_floating_point() or table.dtype == torch.bool:
        raise DissectError(f"{what} must be whole numbers, not {value!r}")
    if single and table.numel() == width:
        return table.long().cpu().reshape(1, width).expand(rows, width)
    if tuple(table.shape) != wanted:
        one = "a whole number" if what == "unit" else f"{width} whole numbers"
        raise DissectError(
            f"{what} must be {one}, or one for each of the {rows} images: shape {wanted}, "
            f"not {tuple(table.shape)}"
        )
    return table.long().cpu().reshape(rows, width)


def _check(values: Tensor, size: int, has: str, what: str) -> None:
    wrong = values[(values < 0) | (values >= size)]
    if len(wrong):
        raise DissectError(f"{has}; {what} {int(wrong[0])} is not among them (0 is the first)")
