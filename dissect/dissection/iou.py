"""Units against the concepts of a segmenter: counts from which IoU and AUC follow.

Every count is kept twice: with the sample's own masks, and with the masks of another sample. The
second is the baseline: what a unit scores for lying where a concept usually lies, whatever it is
that the unit draws.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.running_stats import State
from dissect.dissection.upsampling import Upsampling

__all__ = ["OBSERVED", "PERMUTED", "ConceptCounts", "Thresholds"]

# Which masks a count was made with.
OBSERVED, PERMUTED = 0, 1

# A cell is the concept from this share of its area on, as in `fit_probe`; with less, but some, it
# is neither the concept nor anything else.
INSIDE = 0.5

# The two sides of 0: ReLU makes zeros by the million, and equal values are a tie, not an unknown.
_AROUND_ZERO = (-(2.0**-126), 0.0)


class Thresholds(NamedTuple):
    """Where the activation of each of C units is cut; chosen on latents that are not counted.

    Attributes:
        threshold: (C,) above it a unit is on (GAN Dissection: its 0.995 quantile).
        edges: (C, E) sorted; the AUC is computed from counts between them.
    """

    threshold: Tensor
    edges: Tensor

    @classmethod
    def from_quantiles(cls, threshold: Tensor, quantiles: Tensor) -> "Thresholds":
        """The thresholds at a threshold (C,) and at quantiles (C, Q), and a bin for 0 alone."""
        zero = torch.tensor(_AROUND_ZERO, device=quantiles.device).expand(len(quantiles), 2)
        edges = torch.cat([quantiles, zero], 1).sort(1).values.contiguous()
        return cls(threshold, edges)


class ConceptCounts:
    """A running count of C units of one layer against K concepts (see `_utils.running_stats`).

    `update` takes activations and masks; `merge` is exact, for the counts are whole numbers;
    `state_dict` is of a size that depends on C and K alone.

    Args:
        thresholds: where the units' activations are cut.
        concepts: how many classes the masks have.
    """

    def __init__(self, thresholds: Thresholds, concepts: int) -> None:
        self.thresholds = thresholds
        self.concepts = concepts
        units, edges = thresholds.edges.shape

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=thresholds.edges.device)

        # Pixels: above the threshold and of the concept; above it at all; of the concept; all.
        self._both = zeros(2, units, concepts)
        self._above = zeros(units)
        self._shown = zeros(2, concepts)
        self._pixels = zeros(1)
        # Cells by the bin of their value: all; of the concept; partly of the concept.
        self._cells = zeros(units, edges + 1)
        self._inside = zeros(2, concepts, units, edges + 1)
        self._partly = zeros(2, concepts, units, edges + 1)

    def update(self, acts: Tensor, labels: Tensor, others: Tensor, upsampling: Upsampling) -> None:
        """Count samples.

        Args:
            acts: (N, C, h, w) activations of the layer.
            labels: (N, H, W) int64, the class of every pixel.
            others: (N, H, W), the same of other samples, for the baseline.
            upsampling: from (h, w) to (H, W).

        Raises:
            DissectError: another number of units.
        """
        if acts.ndim != 4 or acts.shape[1] != len(self.thresholds.threshold):
            raise DissectError(
                f"activations are (N, {len(self.thresholds.threshold)}, h, w) here, not "
                f"{tuple(acts.shape)}"
            )
        masks = (labels, others)
        self._pixels += labels.numel()
        for kind, classes in enumerate(masks):
            self._shown[kind] += torch.bincount(classes.flatten(), minlength=self.concepts)
        self._count_pixels(acts, masks, upsampling)
        self._count_cells(acts, masks)

    def _count_pixels(
        self, acts: Tensor, masks: tuple[Tensor, Tensor], upsampling: Upsampling
    ) -> None:
        threshold = self.thresholds.threshold
        one_hot = torch.nn.functional.one_hot(torch.stack(masks, 1).flatten(2), self.concepts)
        # A sample at a time: a unit whose largest cell is not above its threshold has no pixel
        # above it, and most have none; the rest fits the processor's cache.
        for maps, of_sample in zip(acts, one_hot.transpose(2, 3).float(), strict=True):
            on = (maps.amax((1, 2)) > threshold).nonzero().squeeze(1)
            above = upsampling(maps[on]) > threshold[on, None, None]
            flat = above.flatten(1).float()
            self._above[on] += flat.sum(1).long()
            # Sums of ones, below 2 to the 24th: float32 is exact.
            self._both[:, on] += (flat @ of_sample.transpose(1, 2)).long()

    def _count_cells(self, acts: Tensor, masks: tuple[Tensor, Tensor]) -> None:
        units, bins = self._cells.shape
        grid = (acts.shape[2], acts.shape[3])
        values = acts.transpose(0, 1).flatten(1).contiguous()
        # Counted together: the bins of unit u begin at u * bins.
        offset = torch.arange(units, device=acts.device)[:, None] * bins
        places = (torch.searchsorted(self.thresholds.edges, values) + offset).T
        self._cells += _counted(places, self._cells.numel()).view(units, bins)
        for kind, classes in enumerate(masks):
            one_hot = torch.nn.functional.one_hot(classes, self.concepts).permute(3, 0, 1, 2)
            share = torch.nn.functional.adaptive_avg_pool2d(one_hot.float(), grid).flatten(1)
            inside = share >= INSIDE
            for counts, chosen in (
                (self._inside[kind], inside),
                (self._partly[kind], (share > 0) & ~inside),
            ):
                concept, cell = chosen.nonzero(as_tuple=True)
                found = places[cell] + concept[:, None] * (units * bins)
                counts += _counted(found, counts.numel()).view(counts.shape)

    def merge(self, other: "ConceptCounts") -> None:
        """Take in what `other` counted; exact.

        Raises:
            DissectError: other thresholds, or another number of concepts.
        """
        same = all(
            torch.equal(mine, its.to(mine.device))
            for mine, its in zip(self.thresholds, other.thresholds, strict=True)
        )
        if not same or self.concepts != other.concepts:
            raise DissectError("counts at other thresholds, or of other concepts, do not add up")
        for name, counts in other._counts().items():
            mine = self._counts()[name]
            mine += counts.to(mine.device)

    def iou(self, masks: int = OBSERVED) -> Tensor:
        """Intersection over union of where each unit is on with each concept: (C, K) float64.

        Over all pixels of all samples (Bau et al. 2019, equation 2); 0 where neither is anywhere.
        """
        both = self._both[masks]
        union = self._above[:, None] + self._shown[masks] - both
        return both.double() / union.clamp(min=1)

    def max_iou(self) -> Tensor:
        """The largest IoU with each concept that a unit could have which is on as often: (C, K).

        Where the concept covers more than the unit does, the unit can at best lie inside it.
        """
        above, shown = self._above[:, None].double(), self._shown[OBSERVED][None].double()
        return torch.minimum(above, shown) / torch.maximum(above, shown).clamp(min=1)

    def auc(self, masks: int = OBSERVED) -> Tensor:
        """How well each unit's activation ranks the concept's cells above the others: (C, K).

        The share of pairs of a cell that is the concept and one without any of it in which the
        first is stronger; ties, and pairs within one bin, count half. NaN where there is no pair.
        """
        positive, negative = self._classes(masks)
        below = negative.cumsum(2) - negative
        won = (positive * (below + 0.5 * negative)).sum(2)
        return (won / (positive.sum(2) * negative.sum(2))).T.contiguous()

    def auc_error(self, masks: int = OBSERVED) -> Tensor:
        """By how much the bins can have moved each AUC, at most: (C, K).

        Half of the pairs that share a bin, the bin of 0 left out: there the tie is real.
        """
        positive, negative = self._classes(masks)
        pairs = positive * negative
        zero = torch.searchsorted(
            self.thresholds.edges, torch.zeros_like(self.thresholds.edges[:, :1])
        )
        pairs.scatter_(2, zero[None].expand(self.concepts, -1, -1), 0.0)
        return (0.5 * pairs.sum(2) / (positive.sum(2) * negative.sum(2))).T.contiguous()

    def _classes(self, masks: int) -> tuple[Tensor, Tensor]:
        """Cells of each concept and cells without it, (K, C, bins) float64 each."""
        negative = self._cells - self._inside[masks] - self._partly[masks]
        return self._inside[masks].double(), negative.double()

    def above(self) -> Tensor:
        """The share of all pixels in which each unit is on: (C,) float64."""
        return self._above.double() / self._pixels.clamp(min=1)

    def shown(self) -> Tensor:
        """The share of all pixels that are of each concept: (K,) float64."""
        return self._shown[OBSERVED].double() / self._pixels.clamp(min=1)

    def positives(self, masks: int = OBSERVED) -> Tensor:
        """How many cells are of each concept: (K,) int64."""
        return self._inside[masks][:, 0].sum(1)

    def _counts(self) -> State:
        return {
            "both": self._both,
            "above": self._above,
            "shown": self._shown,
            "pixels": self._pixels,
            "cells": self._cells,
            "inside": self._inside,
            "partly": self._partly,
        }

    def state_dict(self) -> State:
        """The counts and the thresholds."""
        return {**{k: v.clone() for k, v in self._counts().items()}, **self.thresholds._asdict()}

    @classmethod
    def from_state_dict(cls, state: State) -> "ConceptCounts":
        """The counts whose state this is."""
        made = cls(Thresholds(state["threshold"], state["edges"]), state["shown"].shape[1])
        for name, counts in made._counts().items():
            counts += state[name]
        return made


def _counted(places: Tensor, length: int) -> Tensor:
    return torch.bincount(places.flatten(), minlength=length)
