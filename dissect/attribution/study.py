"""What the features of a discriminator respond to: their strongest images, and what is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dissect._utils.images import to_tensor
from dissect._utils.progress import progress_bar
from dissect._utils.result import Result, to_plain
from dissect.attribution.concepts import ConceptFractions, concept_fractions
from dissect.attribution.max_activations import MaxActivations, feature_grid, max_activations
from dissect.attribution.methods import guided_backprop
from dissect.data import ImageSource, RenderedSource

__all__ = ["FeaturePictures", "FeatureStudy", "feature_pictures", "study_features"]


@dataclass(frozen=True, repr=False)
class FeatureStudy(Result):
    """The strongest images of some units, and which concepts the units respond to in them.

    Attributes:
        largest: the images, the activations, and their positions.
        fractions: the concepts; None where the images have no masks.
    """

    largest: MaxActivations
    fractions: ConceptFractions | None

    def summary(self) -> dict[str, Any]:
        """The layer and how much was studied."""
        n_units, k = self.largest.image.shape
        return {"layer": self.largest.layer, "n_units": n_units, "k": k}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each unit and class; for each unit and image where there are no classes."""
        return self.largest.rows() if self.fractions is None else self.fractions.rows()

    def to_dict(self) -> dict[str, Any]:
        """The study for JSON, unit by unit; None for what cannot be judged."""
        records: dict[int, dict[str, Any]] = {
            unit: {"unit": unit, "strongest": [], "concepts": None} for unit in self.largest.units
        }
        for row in self.largest.rows():
            records[row.pop("unit")]["strongest"].append(row)
        for row in self.fractions.rows() if self.fractions is not None else ():
            record = records[row.pop("unit")]
            record["concepts"] = {**(record["concepts"] or {}), row.pop("class"): to_plain(row)}
        return {**self.summary(), "units": list(records.values())}


@dataclass(frozen=True, repr=False)
class FeaturePictures(Result):
    """What the figure shows of U units, n images each.

    Attributes:
        units: the units.
        images: (U, n, H, W, 3) uint8.
        gradients: (U, n, H, W, 3), their guided gradients.
        positions: (U, n, 2), row and column of the maximum.
        grid: rows and columns of the layer.
    """

    units: tuple[int, ...]
    images: NDArray[np.uint8]
    gradients: NDArray[np.float32]
    positions: NDArray[np.int64]
    grid: tuple[int, int]


def study_features(
    model: nn.Module,
    layer: str,
    source: ImageSource,
    units: Sequence[int] | None = None,
    *,
    k: int = 20,
    count: int | None = None,
    rule: str = "strict",
    label: str = "features",
) -> FeatureStudy:
    """The `k` strongest images of each unit, and the concepts if the source knows any.

    Args:
        model: in evaluation mode; takes images (N, 3, H, W) in [-1, 1].
        layer: a layer whose output is (N, C, h, w).
        source: where the images come from; a rendered one has masks.
        units: which units; None: all.
        k: images a unit.
        count: look at the first so many images of the source; None: at all.
        rule: as in `guided_backprop`.
        label: what the progress bars call the units.

    Raises:
        DissectError: what `max_activations` and `guided_backprop` raise.

    >>> from torch import nn
    >>> from dissect.data import source
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    >>> study_features(model, "2", source("bedrooms", size=16, count=4), k=2)
    FeatureStudy(layer=2, n_units=2, k=2)
    """
    # A mistake is an error before the stream rather than after it.
    feature_grid(model, layer, source)
    guided_backprop(model, to_tensor(source.images([0])), layer, 0, rule=rule)
    total = len(source) if count is None else min(count, len(source))
    with progress_bar(f"strongest images, {label}", total) as progress:
        largest = max_activations(model, layer, source, units, k=k, count=total, progress=progress)
    if not isinstance(source, RenderedSource):
        return FeatureStudy(largest, None)
    with progress_bar(f"guided gradients, {label}", largest.image.size) as progress:
        fractions = concept_fractions(model, source, largest, rule=rule, progress=progress)
    return FeatureStudy(largest, fractions)


def feature_pictures(
    model: nn.Module,
    source: ImageSource,
    largest: MaxActivations,
    *,
    n_units: int,
    n: int,
    rule: str = "strict",
) -> FeaturePictures:
    """The first `n_units` units and their `n` strongest images, with the guided gradients.

    Args:
        model: in evaluation mode.
        source: where `largest` found its images.
        largest: the images of each unit.
        n_units, n: how many units, and images of each, are shown at most.
        rule: as in `guided_backprop`.

    Raises:
        DissectError: what `guided_backprop` raises.
    """
    units = largest.units[:n_units]
    n = min(n, largest.image.shape[1])
    positions = largest.position[: len(units), :n]
    images = source.images(largest.image[: len(units), :n].reshape(-1))
    gradients = guided_backprop(
        model,
        to_tensor(images),
        largest.layer,
        torch.tensor(units).repeat_interleave(n),
        torch.from_numpy(positions.reshape(-1, 2)),
        rule=rule,
    )
    shape = (len(units), n, *images.shape[1:])
    return FeaturePictures(
        units=units,
        images=images.reshape(shape),
        gradients=gradients.permute(0, 2, 3, 1).numpy().reshape(shape),
        positions=positions,
        grid=largest.grid,
    )
