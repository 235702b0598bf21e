"""What the features of a discriminator answer to: their strongest images, and what is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dissect._utils.images import to_tensor
from dissect._utils.progress import progress_bar
from dissect.attribution.concepts import ConceptShares, concept_shares
from dissect.attribution.methods import guided_backprop
from dissect.attribution.responses import Responses, grid_of, strongest
from dissect.data import ImageSource, RenderedSource

__all__ = ["FeaturePictures", "FeatureStudy", "pictures", "study_features"]


@dataclass(frozen=True)
class FeatureStudy:
    """The strongest images of some units, and which concepts the units answer to in them.

    Attributes:
        responses: the images, how strong the responses are, and where.
        shares: the concepts; None where the images have no masks.
    """

    responses: Responses
    shares: ConceptShares | None

    def as_list(self) -> list[dict[str, Any]]:
        """For each unit a record for JSON: shares as means, None for what cannot be judged."""
        found = self.responses
        rows = []
        for at, unit in enumerate(found.units):
            images = [
                {"image": int(image), "response": float(value), "place": place.tolist()}
                for image, value, place in zip(
                    found.image[at], found.value[at], found.place[at], strict=True
                )
            ]
            concepts = None if self.shares is None else _concepts(self.shares, at)
            rows.append({"unit": unit, "strongest": images, "concepts": concepts})
        return rows


@dataclass(frozen=True)
class FeaturePictures:
    """What the figure shows of U units, n images each.

    Attributes:
        units: the units.
        images: (U, n, H, W, 3) uint8.
        gradients: (U, n, H, W, 3), their guided gradients.
        places: (U, n, 2), row and column of the maximum.
        grid: rows and columns of the layer.
    """

    units: tuple[int, ...]
    images: NDArray[np.uint8]
    gradients: NDArray[np.float32]
    places: NDArray[np.int64]
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
    called: str = "features",
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
        called: what the progress bars call the units.

    Raises:
        DissectError: what `strongest` and `guided_backprop` raise.
    """
    # Refused at once rather than after the stream.
    grid_of(model, layer, source)
    guided_backprop(model, to_tensor(source.images([0])), layer, 0, rule=rule)
    total = len(source) if count is None else min(count, len(source))
    with progress_bar(f"strongest images, {called}", total) as progress:
        found = strongest(model, layer, source, units, k=k, count=total, progress=progress)
    if not isinstance(source, RenderedSource):
        return FeatureStudy(found, None)
    with progress_bar(f"guided gradients, {called}", found.image.size) as progress:
        shares = concept_shares(model, source, found, rule=rule, progress=progress)
    return FeatureStudy(found, shares)


def pictures(
    model: nn.Module,
    source: ImageSource,
    responses: Responses,
    *,
    n_units: int,
    n: int,
    rule: str = "strict",
) -> FeaturePictures:
    """The first `n_units` units and their `n` strongest images, with the guided gradients."""
    units = responses.units[:n_units]
    n = min(n, responses.image.shape[1])
    places = responses.place[: len(units), :n]
    images = source.images(responses.image[: len(units), :n].reshape(-1))
    gradients = guided_backprop(
        model,
        to_tensor(images),
        responses.layer,
        torch.tensor(units).repeat_interleave(n),
        torch.from_numpy(places.reshape(-1, 2)),
        rule=rule,
    )
    shape = (len(units), n, *images.shape[1:])
    return FeaturePictures(
        units=units,
        images=images.reshape(shape),
        gradients=gradients.permute(0, 2, 3, 1).numpy().reshape(shape),
        places=places,
        grid=responses.grid,
    )


def _concepts(shares: ConceptShares, at: int) -> dict[str, dict[str, float | int | None]]:
    over_chance, over_area, images = shares.over_chance[at], shares.over_area[at], shares.images[at]
    answered = ~np.isnan(shares.energy[at]).any(1)
    columns = {
        "energy": _mean(shares.energy[at][answered]),
        "chance": _mean(shares.chance[at][answered]),
        "area": _mean(shares.area[at][answered]),
        "over_chance": over_chance,
        "over_area": over_area,
    }
    return {
        name: {
            **{key: _number(values[k]) for key, values in columns.items()},
            "images": int(images[k]),
        }
        for k, name in enumerate(shares.classes)
    }


def _mean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the images in which the unit has a gradient; NaN where there is none."""
    mean: NDArray[np.float64] = rows.mean(0) if len(rows) else np.full(rows.shape[1], np.nan)
    return mean


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
