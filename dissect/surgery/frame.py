"""Where the picture lies on a layer's grid, which may have a margin around it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.hooks import activations, edit
from dissect.models import Generator, generate, latents_for

__all__ = ["Frame", "in_picture", "picture_frame"]

# Places at which cells are changed, as fractions of the grid: near its middle, where the picture is
# in any case.
_PLACES = (0.38, 0.46, 0.54, 0.62)
# A margin of less than this many cells is the shift that strided kernels leave.
_LEAST = 0.75


@dataclass(frozen=True)
class Frame:
    """The part of a grid that the picture covers, in cells: rows `top` to `bottom`, half open.

    StyleGAN3 computes its layers with a margin of ten cells, which is cut off in the end (Karras
    et al. 2021, appendix).
    """

    top: int
    bottom: int
    left: int
    right: int

    def inner(self, grid: Tensor) -> Tensor:
        """The cells (..., h, w) of the picture itself."""
        return grid[..., self.top : self.bottom, self.left : self.right]

    def on_grid(self, inside: Tensor, grid: tuple[int, int]) -> Tensor:
        """Values of the picture's cells on the whole grid, 0 in the margin."""
        whole = inside.new_zeros((*inside.shape[:-2], *grid))
        whole[..., self.top : self.bottom, self.left : self.right] = inside
        return whole

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        return self.bottom - self.top, self.right - self.left


_frames: WeakKeyDictionary[nn.Module, dict[str, Frame | None]] = WeakKeyDictionary()


def picture_frame(model: nn.Module, layer: str) -> Frame | None:
    """The cells of the layer that the picture covers; None where it covers the whole grid.

    Columns and rows of cells are changed one after another, and the pixels that change are found.
    A cell's size in pixels is the distance between two such changes; a picture of fewer cells than
    the grid has a margin around it. It is measured once for each model and layer.

    Raises:
        DissectError: no such layer, or one without a grid.
    """
    if isinstance(model, Generator):
        return None
    known = _frames.setdefault(model, {})
    if layer not in known:
        known[layer] = _measured(model, layer)
    return known[layer]


def in_picture(acts: Tensor, frame: Frame | None) -> Tensor:
    """Activations (N, C, h, w) without the cells of a margin."""
    return acts if frame is None else frame.inner(acts)


def _measured(model: nn.Module, layer: str) -> Frame | None:
    z = latents_for(model, 1)
    acts = activations(model, layer, z)
    if acts.ndim != 4:
        raise DissectError(
            f"layer {layer!r} gives {tuple(acts.shape)}, not a grid of units (N, C, H, W)"
        )
    image = generate(model, z)
    scale = float(acts.float().std()) or 1.0
    sides = []
    for axis in (2, 3):
        cells, pixels = acts.shape[axis], image.shape[axis]
        centres = {}
        for place in dict.fromkeys(int(fraction * cells) for fraction in _PLACES):
            changed = generate(model, z, edit=_Added(layer, axis, place, scale))
            centre = _centre((changed - image).abs().sum((0, 1, 5 - axis)).cpu().numpy())
            if centre is not None:
                centres[place] = centre
        sides.append(_side(centres, cells, pixels))
    (top, bottom), (left, right) = sides
    if (top, bottom, left, right) == (0, acts.shape[2], 0, acts.shape[3]):
        return None
    return Frame(top, bottom, left, right)


def _side(centres: dict[int, float], cells: int, pixels: int) -> tuple[int, int]:
    """The first cell of the picture along one axis, and the one after its last."""
    places = sorted(centres)
    if len(places) < 2:
        return 0, cells
    steps = [
        (centres[b] - centres[a]) / (b - a) for k, a in enumerate(places) for b in places[k + 1 :]
    ]
    pixels_a_cell = float(np.median(steps))
    # Steps that differ much come from a network that mixes places, which has no such scale.
    if pixels_a_cell <= 0 or max(steps) - min(steps) > pixels_a_cell / 2:
        return 0, cells
    if cells - pixels / pixels_a_cell < 2 * _LEAST:
        return 0, cells
    # The centre of cell c is at pixel (c + 0.5 - first) * pixels_a_cell, counted from the edge.
    first = float(np.median([c + 0.5 - (centres[c] + 0.5) / pixels_a_cell for c in places]))
    begin = min(max(0, round(first)), cells - 1)
    return begin, min(cells, max(begin + 1, round(first + pixels / pixels_a_cell)))


def _centre(change: NDArray[np.float32]) -> float | None:
    """The centre of what changed along an axis, above what changed everywhere alike."""
    local = np.maximum(change - np.median(change), 0) ** 2
    total = float(local.sum())
    return float((local * np.arange(len(local))).sum() / total) if total > 0 else None


@dataclass(frozen=True)
class _Added:
    """An edit that changes one row or column of cells in every unit."""

    layer: str
    axis: int
    place: int
    amount: float

    def applied(self, model: nn.Module, /) -> AbstractContextManager[None]:
        def changed(activation: Tensor) -> Tensor:
            activation.select(self.axis, self.place).add_(3 * self.amount)
            return activation

        edits: dict[str, Any] = {self.layer: changed}
        return edit(model, edits)
