"""The effect of every single unit of a layer, without running the network anew for each.

Four things make it fast. The part before the layer runs once. A unit that is silent on a sample
changes nothing there, so that sample is passed over. The first convolution after the edit is
linear: its output without a unit is the output with it less the unit's own share, a convolution
of one channel. And what follows has its batch norms folded into its convolutions. Units are
worked on side by side, each on a core of its own.
"""

import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect._utils.distributed import ProcessGroup
from dissect._utils.errors import DissectError
from dissect._utils.parallel import parallel_map, single_threaded
from dissect._utils.progress import ProgressCallback, no_progress
from dissect._utils.result import Result
from dissect._utils.stats import ratio
from dissect.hooks import activations
from dissect.hooks.modules import runs_class_forward
from dissect.models import generate, generate_batches
from dissect.models.batch_norm import fold_batch_norm
from dissect.segmentation import Segmenter
from dissect.surgery import ablated
from dissect.surgery.split import split_at
from dissect.units import Units

__all__ = ["UnitEffects", "unit_effects"]

_BATCH = 32  # what fits the caches of a processor
# On how many images the fast way is checked, and how far they may be apart by rounding.
_CHECKED, _ROUNDING = 4, 1e-4

_Convolution = nn.Conv2d | nn.ConvTranspose2d


@dataclass(frozen=True, repr=False)
class UnitEffects(Result):
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

    def removal(self, concept: str) -> NDArray[np.float64]:
        """(C,) fraction of the concept's pixels that each unit alone removes; NaN without any."""
        k = self.classes.index(concept)
        return self.removals()[:, k]

    def removals(self) -> NDArray[np.float64]:
        """(C, K) the same of every class."""
        return 1 - ratio(self.after, self.before)

    def mean_iou_kept(self, concept: str) -> NDArray[np.float64]:
        """(C,) mean of the IoU before and after over the other classes that are in any image."""
        ious = ratio(self.both, self.before + self.after - self.both)
        others = [k for k, name in enumerate(self.classes) if name != concept]
        mean: NDArray[np.float64] = np.nanmean(ious[:, others], 1)
        return mean

    def summary(self) -> dict[str, Any]:
        """The layer, its number of units, and the number of classes."""
        return {"layer": self.layer, "n_units": len(self.after), "n_classes": len(self.classes)}


def unit_effects(
    model: nn.Module,
    layer: str,
    z: Tensor,
    segmenter: Segmenter,
    *,
    units: Iterable[int] | None = None,
    fast: bool = True,
    group: ProcessGroup | None = None,
    progress: ProgressCallback = no_progress,
) -> UnitEffects:
    """The effect of zeroing every unit of `layer`, one at a time, at all positions.

    Args:
        model: the generator, in eval mode.
        layer: which layer's units.
        z: latents to measure on.
        segmenter: counts the pixels.
        units: which of them; all without it. What is reported of the others is no effect.
        fast: go on from the layer where what follows it is known (see `split_at`), begins with a
            convolution, and has no hooks of anybody; off, and for any other model, each unit costs
            a full forward pass. The numbers are the same within rounding, which is checked on a few
            samples: where they differ, a warning says so and the slow way is taken.
        group: the processes that share out the units, all of which call this and get the result.
        progress: called with the number of units that were done since, by any process; from several
            threads, as the segmenter is.

    Raises:
        DissectError: no such layer, or one without a grid.
    """
    with single_threaded():
        acts = activations(model, layer, z)
        if acts.ndim != 4:
            raise DissectError(f"layer {layer!r} gives {tuple(acts.shape)}, not a grid of units")
        tail = Tail.of(model, layer, acts) if fast else None
        if tail is not None and not _agrees(tail, model, layer, z):
            warnings.warn(
                f"the effects of units of {layer!r} come out otherwise when the pass goes on from "
                "the layer: every unit takes whole passes",
                stacklevel=2,
            )
            tail = None
    side_by_side = tail is not None and z.device.type == "cpu"
    # Sums round by the number of threads: the images before are made with as many as those after.
    with single_threaded() if side_by_side else nullcontext():
        images = generate(model, z, batch_size=_BATCH)
        labels = segmenter.labels(images)
    classes = len(segmenter.classes)
    total = acts.shape[1]
    before = _counts(labels, classes)
    # What a unit adds to the pixels before; what other processes work on adds nothing here.
    after, both = np.zeros((2, total, classes), np.int64)
    change, silent = np.zeros((2, total))
    active = acts.abs().amax((2, 3)) > 0

    def measured(unit: int, _: threading.Event) -> None:
        rows = active[:, unit].nonzero().squeeze(1)
        if tail is None:
            rows = torch.arange(len(z))
        drawn = (
            _plainly(model, Units(layer, (unit,), total), z)
            if tail is None
            else tail.without(unit, rows)
        )
        for at, edited in drawn:
            place = rows[at]
            # Rows are the classes before, columns those without the unit.
            pairs = _counts(labels[place] * classes + segmenter.labels(edited), classes**2)
            table = pairs.reshape(classes, classes)
            # What the untouched samples count stays; what these counted is taken out and put anew.
            after[unit] += table.sum(0) - table.sum(1)
            both[unit] += np.diag(table) - table.sum(1)
            change[unit] += float((edited - images[place]).abs().mean((1, 2, 3)).sum())
        silent[unit] = 1 - float(active[:, unit].float().mean())
        progress(1)

    group = group or ProcessGroup()
    wanted = range(total) if units is None else list(units)
    mine = group.split(wanted, on_others=lambda taken: progress(len(taken)))
    if side_by_side:
        parallel_map(measured, mine)
    else:
        for unit in mine:
            measured(unit, threading.Event())
    after, both, change, silent = (
        group.sum(torch.from_numpy(values)).numpy() for values in (after, both, change, silent)
    )
    return UnitEffects(
        layer,
        segmenter.classes,
        before,
        before + after,
        before + both,
        change / max(len(z), 1),
        silent,
    )


class Tail:
    """What follows a layer, begun from the output of the first convolution after it."""

    def __init__(self, acts: Tensor, conv: _Convolution, following: nn.Module) -> None:
        self.acts = acts.contiguous(memory_format=torch.channels_last)
        self.conv, self.following = conv, following
        with torch.inference_mode():
            self.whole = torch.cat([conv(part) for part in self.acts.split(_BATCH)])

    @classmethod
    def of(cls, model: nn.Module, layer: str, acts: Tensor) -> "Tail | None":
        """None where what follows cannot be told, or does not begin with a convolution."""
        _, tail = split_at(model, layer)
        # A copy would be without the hooks of open blocks, and hooks of others would see it folded.
        if tail is model or not all(map(runs_class_forward, tail.modules())):
            return None
        # The layer hands on what it is given; the parts after it run in order.
        parts = _in_a_row(cast(nn.Sequential, fold_batch_norm(tail))[1:])
        if not parts:
            return None
        conv, *following = parts
        if not isinstance(conv, _Convolution) or conv.groups > 1 or conv.padding_mode != "zeros":
            return None
        return cls(acts, conv, nn.Sequential(*following))

    def without(self, unit: int, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Images of the samples `rows` without the unit, in batches, and which rows they are."""
        everything = len(rows) == len(self.acts)
        # Convolutions of one channel are slow in the layout that suits the others.
        alone = (self.acts if everything else self.acts[rows])[:, unit : unit + 1].contiguous()
        for first in range(0, len(rows), _BATCH):
            at = slice(first, first + _BATCH)
            with torch.inference_mode():
                whole = self.whole[at if everything else rows[at]]
                yield at, self.following(whole - self._share(alone[at], unit))

    def _share(self, alone: Tensor, unit: int) -> Tensor:
        """The unit's own part of the convolution's output."""
        conv = self.conv
        if isinstance(conv, nn.ConvTranspose2d):
            return nn.functional.conv_transpose2d(
                alone,
                conv.weight[unit : unit + 1],
                None,
                conv.stride,
                cast("tuple[int, ...]", conv.padding),
                conv.output_padding,
                1,
                conv.dilation,
            )
        return nn.functional.conv2d(
            alone, conv.weight[:, unit : unit + 1], None, conv.stride, conv.padding, conv.dilation
        )


def _in_a_row(module: nn.Module) -> list[nn.Module]:
    """The modules that run one after the other, those of a `Sequential` in its place."""
    if type(module).forward is not nn.Sequential.forward:
        return [module]
    # Not `children()`, which passes over a module that has come before.
    return [part for child in cast(nn.Sequential, module) for part in _in_a_row(child)]


def _agrees(tail: Tail, model: nn.Module, layer: str, z: Tensor) -> bool:
    """Whether a few images without their most active unit are those of the slow way."""
    rows = torch.arange(min(_CHECKED, len(z)))
    if not len(rows):
        return True
    acts = tail.acts[: len(rows)]
    unit = int(acts.abs().nan_to_num().amax((0, 2, 3)).argmax())
    slow = [images for _, images in _plainly(model, Units(layer, (unit,), acts.shape[1]), z[rows])]
    fast = [images for _, images in tail.without(unit, rows)]
    return torch.allclose(torch.cat(fast), torch.cat(slow), atol=_ROUNDING, equal_nan=True)


def _plainly(model: nn.Module, unit: Units, z: Tensor) -> Iterator[tuple[slice, Tensor]]:
    first = 0
    with ablated(model, unit):
        for images in generate_batches(model, z, batch_size=_BATCH):
            yield slice(first, first + len(images)), images
            first += len(images)


def _counts(labels: Tensor, classes: int) -> NDArray[np.int64]:
    return torch.bincount(labels.flatten(), minlength=classes).cpu().numpy()
