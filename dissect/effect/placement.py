"""Where a concept can be put in, and where it cannot: measured with a segmenter.

Bau et al. (2019, GAN Dissection, section 4.4) insert doors at every place of many images, and find
that the network draws them only where they make sense.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress
from dissect._utils.result import Result
from dissect._utils.stats import Estimate, ratio, resampling_counts
from dissect.models import generate
from dissect.segmentation import Segmenter
from dissect.surgery import Intervention
from dissect.surgery.split import split_at

__all__ = ["FREE", "PRESENT", "Placement", "place", "place_everywhere"]

# A region shows the concept from this fraction of its pixels on, and is free of it up to that one.
PRESENT, FREE = 0.25, 0.05
# On fewer eligible samples no probability is reported.
_FEWEST = 5


@dataclass(frozen=True, repr=False)
class Placement(Result):
    """A concept put in at some places of the grid, on N samples; the axes P are of places.

    Attributes:
        concept: what was put in.
        classes: the segmenter's.
        before, after: (N, *P), the fraction of the region's pixels that are the concept.
        surroundings: (N, *P), the class of most of the region's pixels before.
        change: (*P,), the mean absolute change of all pixels outside the region, on the [-1, 1]
            scale.
    """

    concept: str
    classes: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    surroundings: NDArray[np.int64]
    change: NDArray[np.float64]

    @property
    def eligible(self) -> NDArray[np.bool_]:
        """(N, *P), whether the region was free of the concept before: only those count."""
        return self.before <= FREE

    @property
    def present_after(self) -> NDArray[np.bool_]:
        """(N, *P), whether the segmenter finds the concept in the region after."""
        return self.after >= PRESENT

    def probability(self) -> NDArray[np.float64]:
        """(*P,), the fraction of eligible samples on which the concept is present after.

        NaN where fewer than 5 samples are eligible.
        """
        count = self.eligible.sum(0)
        hits = (self.eligible & self.present_after).sum(0)
        return np.where(count >= _FEWEST, ratio(hits, count), np.nan)

    def estimate(self, *, resamples: int = 1_000, seed: int = 0) -> Estimate:
        """The fraction of eligible samples and places on which the concept is present after.

        With its interval over images; NaN where no sample is eligible.
        """
        return self._estimate(self.eligible, resamples, seed)

    def by_surroundings(
        self, *, fewest: int = 20, resamples: int = 1_000, seed: int = 0
    ) -> dict[str, tuple[int, Estimate]]:
        """For what was there before: how many eligible regions, and `estimate` on those alone.

        Surroundings with fewer than `fewest` regions are left out; the most frequent come first.
        """
        estimates = {}
        for number, name in enumerate(self.classes):
            here = self.eligible & (self.surroundings == number)
            if here.sum() >= fewest:
                estimates[name] = (int(here.sum()), self._estimate(here, resamples, seed))
        return dict(sorted(estimates.items(), key=lambda item: -item[1][0]))

    def _estimate(self, regions: NDArray[np.bool_], resamples: int, seed: int) -> Estimate:
        axes = tuple(range(1, regions.ndim))
        hits, count = (regions & self.present_after).sum(axes), regions.sum(axes)
        weights = resampling_counts(len(count), resamples, seed)
        return Estimate.from_resamples(ratio(weights @ hits, weights @ count))

    def summary(self) -> dict[str, Any]:
        """The concept, the samples, and the fraction on which it is present after."""
        return {
            "concept": self.concept,
            "n": len(self.before),
            "present_after": self.estimate().value,
        }


def place(
    model: nn.Module, segmenter: Segmenter, z: Tensor, what: Intervention, cells: Tensor
) -> Placement:
    """The concept put in at one region of every sample; P is (1,).

    Args:
        model: the generator, in evaluation mode.
        segmenter: its eyes; it must know the concept of `what.units`.
        z: N latents that were not used for choosing the units.
        what: the edit that puts it in (see `Intervention.insert`), whose gate is left out.
        cells: (H, W) of the layer's grid, above 0.5 or True where the region is.

    Raises:
        DissectError: a concept that the segmenter does not know, or a region of another grid.
    """
    return _place(model, segmenter, z, what, [cells > 0.5], (1,), no_progress)


def place_everywhere(
    model: nn.Module,
    segmenter: Segmenter,
    z: Tensor,
    what: Intervention,
    grid: tuple[int, int],
    *,
    patch: tuple[int, int] = (2, 2),
    progress: ProgressCallback = no_progress,
) -> Placement:
    """The concept put in at every patch of cells in turn; P is (rows, columns) of patches.

    Args:
        model, segmenter, z, what: as `place` takes them.
        grid: rows and columns of the layer.
        patch: rows and columns of cells that are set at a time; a patch starts at every cell from
            which it fits.
        progress: called with 1 after each place.

    Raises:
        DissectError: a patch that does not fit the grid, and as `place`.
    """
    rows, columns = grid[0] - patch[0] + 1, grid[1] - patch[1] + 1
    if min(*patch, rows, columns) < 1:
        raise DissectError(f"a patch of {patch[0]}x{patch[1]} cells does not fit {grid} cells")
    regions = []
    for row in range(rows):
        for column in range(columns):
            cells = torch.zeros(grid, dtype=torch.bool)
            cells[row : row + patch[0], column : column + patch[1]] = True
            regions.append(cells)
    return _place(model, segmenter, z, what, regions, (rows, columns), progress)


def _place(
    model: nn.Module,
    segmenter: Segmenter,
    z: Tensor,
    what: Intervention,
    regions: list[Tensor],
    shape: tuple[int, ...],
    progress: ProgressCallback,
) -> Placement:
    concept = what.units.concept or ""
    number, classes = segmenter.class_id(concept), len(segmenter.classes)
    if not len(z):
        raise DissectError("a placement needs at least 1 latent")
    head, tail = split_at(model, *what.layers)
    inputs = head(z)
    images, labels = _seen(tail, segmenter, inputs)
    before, after, surroundings, change = [], [], [], []
    for cells in regions:
        pixels = _pixels(cells, labels.shape[1:])
        with what.with_gate(region=cells).applied(tail):
            drawn, found = _seen(tail, segmenter, inputs)
        old = torch.nn.functional.one_hot(labels[:, pixels], classes).sum(1)
        before.append(old[:, number] / int(pixels.sum()))
        surroundings.append(old.argmax(1))
        after.append((found[:, pixels] == number).double().mean(1))
        change.append(float((drawn - images).abs().mean(1)[:, ~pixels].mean()))
        progress(1)
    everything = (len(z), *shape)
    return Placement(
        concept=concept,
        classes=segmenter.classes,
        before=torch.stack(before, 1).double().numpy().reshape(everything),
        after=torch.stack(after, 1).numpy().reshape(everything),
        surroundings=torch.stack(surroundings, 1).numpy().reshape(everything),
        change=np.array(change).reshape(shape),
    )


def _seen(model: nn.Module, segmenter: Segmenter, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) and classes (N, H, W), on the CPU."""
    images = generate(model, inputs)
    return images.float().cpu(), segmenter.labels(images).cpu()


def _pixels(cells: Tensor, size: torch.Size) -> Tensor:
    """The pixels of the cells, (H, W) bool."""
    large = torch.nn.functional.interpolate(cells[None, None].float(), tuple(size), mode="nearest")
    return large[0, 0] > 0.5
