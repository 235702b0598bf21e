"""The effect of every single unit of a layer, without running the network anew for each.

Three things make it fast. The part before the layer runs once. A unit that is silent on a sample
changes nothing there, so that sample is passed over. And the first convolution after the edit is
linear: its output without a unit is the output with it less the unit's own share, a convolution
of one channel.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect.errors import DissectError
from dissect.hooks import activations
from dissect.models import Generator
from dissect.segment import Segmenter
from dissect.surgery import ablated
from dissect.units import Units

__all__ = ["UnitEffects", "unit_effects"]

_BATCH = 64


@dataclass(frozen=True)
class UnitEffects:
    """What removing each unit alone does to the pixels of every class; C units, K classes.

    Attributes:
        layer: the layer of the units.
        classes: the names of all K.
        before: (K,) pixels of each class before, over all samples.
        after: (C, K) pixels of each class without the unit.
        both: (C, K) pixels that are of the class before and after.
        change: (C,) mean absolute change of the images, on the [-1, 1] scale.
        silent: (C,) share of the samples on which the unit is 0 everywhere.
    """

    layer: str
    classes: tuple[str, ...]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    both: NDArray[np.int64]
    change: NDArray[np.float64]
    silent: NDArray[np.float64]

    def removed(self, concept: str) -> NDArray[np.float64]:
        """(C,) share of the concept's pixels that each unit alone takes away."""
        k = self.classes.index(concept)
        share: NDArray[np.float64] = 1 - self.after[:, k] / max(int(self.before[k]), 1)
        return share

    def kept(self, concept: str) -> NDArray[np.float64]:
        """(C,) mean over the other classes of their IoU before and after."""
        either = self.before[None] + self.after - self.both
        iou = np.where(either > 0, self.both / np.maximum(either, 1), 1.0)
        others = [k for k, name in enumerate(self.classes) if name != concept]
        mean: NDArray[np.float64] = iou[:, others].mean(1)
        return mean


def unit_effects(
    model: nn.Module,
    layer: str,
    z: Tensor,
    segmenter: Segmenter,
    *,
    fast: bool = True,
    watch: Callable[[int], None] | None = None,
) -> UnitEffects:
    """The effect of zeroing every unit of `layer`, one at a time, at all positions.

    Args:
        model: the generator, in eval mode.
        layer: which layer's units.
        z: latents to measure on.
        segmenter: the eyes.
        fast: use what a `Generator` of ours allows; off, and for any other model, each unit costs
            a full forward pass. The numbers are the same within rounding.
        watch: called with 1 after each unit.

    Raises:
        DissectError: no such layer, or one without a grid.
    """
    acts = activations(model, layer, z)
    if acts.ndim != 4:
        raise DissectError(f"layer {layer!r} gives {tuple(acts.shape)}, not a grid of units")
    with torch.inference_mode():
        images = torch.cat([model(part) for part in z.split(_BATCH)])
    labels = segmenter.labels(images)
    classes = len(segmenter.classes)
    units = acts.shape[1]
    before = _counts(labels, classes)
    after, both = np.zeros((2, units, classes), np.int64)
    change, silent = np.zeros((2, units))
    tail = _Tail.of(model, layer, acts) if fast else None
    active = acts.abs().amax((2, 3)) > 0
    for unit in range(units):
        rows = active[:, unit].nonzero().squeeze(1)
        if tail is None:
            rows = torch.arange(len(z))
        drawn = (
            _plainly(model, Units(layer, (unit,), units), z)
            if tail is None
            else tail.without(unit, rows)
        )
        after[unit], both[unit] = before, before
        for at, edited in drawn:
            place = rows[at]
            new, old = segmenter.labels(edited), labels[place]
            # What the untouched samples count stays; what these counted is taken out and put anew.
            after[unit] += _counts(new, classes) - _counts(old, classes)
            both[unit] += _counts(old[new == old], classes) - _counts(old, classes)
            change[unit] += float((edited - images[place]).abs().mean((1, 2, 3)).sum())
        silent[unit] = 1 - float(active[:, unit].float().mean())
        if watch is not None:
            watch(1)
    return UnitEffects(
        layer, segmenter.classes, before, after, both, change / max(len(z), 1), silent
    )


class _Tail:
    """What follows a layer of our generator, begun from the first convolution's output."""

    def __init__(self, acts: Tensor, conv: nn.ConvTranspose2d, rest: nn.Sequential) -> None:
        self.acts, self.conv, self.rest = acts, conv, rest
        with torch.inference_mode():
            self.whole = torch.cat([conv(part) for part in acts.split(_BATCH)])

    @classmethod
    def of(cls, model: nn.Module, layer: str, acts: Tensor) -> "_Tail | None":
        children = dict(model.named_children())
        if not isinstance(model, Generator) or layer not in children or layer == "rgb":
            return None
        names = list(children)
        following = [children[name] for name in names[names.index(layer) + 1 :]]
        first, *others = following
        parts = list(first.children())
        conv = parts[0]
        if not isinstance(conv, nn.ConvTranspose2d):
            return None
        return cls(acts, conv, nn.Sequential(*parts[1:], *others))

    def without(self, unit: int, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Images of the samples `rows` without the unit, in batches, and which rows they are."""
        conv = self.conv
        for first in range(0, len(rows), _BATCH):
            at = slice(first, first + _BATCH)
            with torch.inference_mode():
                own = nn.functional.conv_transpose2d(
                    self.acts[rows[at], unit : unit + 1],
                    conv.weight[unit : unit + 1],
                    None,
                    conv.stride,
                    cast("tuple[int, ...]", conv.padding),
                    conv.output_padding,
                )
                yield at, self.rest(self.whole[rows[at]] - own)


def _plainly(model: nn.Module, unit: Units, z: Tensor) -> Iterator[tuple[slice, Tensor]]:
    for first in range(0, len(z), _BATCH):
        at = slice(first, first + _BATCH)
        with torch.inference_mode(), ablated(model, unit):
            yield at, model(z[at])


def _counts(labels: Tensor, classes: int) -> NDArray[np.int64]:
    return torch.bincount(labels.flatten(), minlength=classes).cpu().numpy()
