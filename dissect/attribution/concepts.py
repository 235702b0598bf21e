"""Which concepts a unit responds to: where the energy of its gradients lies, against chance."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dissect._utils.images import to_tensor
from dissect._utils.progress import ProgressCallback, no_progress
from dissect._utils.result import Result
from dissect.attribution.max_activations import MaxActivations
from dissect.attribution.methods import guided_backprop
from dissect.data import RenderedSource
from dissect.hooks import activations

__all__ = ["ConceptFractions", "concept_fractions", "receptive_field"]

# A class counts in an image from this fraction of the receptive field on (6 pixels square of 46).
# Below it, at the rim where chance is almost 0, the ratio could be anything.
_PRESENT = 0.02
# A unit is judged by the images that show a class if they are this fraction of its images.
_JUDGED = 0.25
_NOISE_IMAGES, _NOISE_SEED = 64, 0


@dataclass(frozen=True, repr=False)
class ConceptFractions(Result):
    """For U units in N images each, how much of what a unit responds to lies in each of K classes.

    Attributes:
        classes: the names of the K classes.
        units: the U units.
        energy: (U, N, K), the fraction of the squared gradient inside the class's mask; NaN in an
            image where the unit has no gradient.
        chance: (U, N, K), the same fraction of `receptive_field`, which is that of a unit that
            responds to nothing in the image.
        area: (U, N, K), the fraction of the receptive field's pixels inside the mask.
    """

    classes: tuple[str, ...]
    units: tuple[int, ...]
    energy: NDArray[np.float64]
    chance: NDArray[np.float64]
    area: NDArray[np.float64]

    @property
    def n_images(self) -> NDArray[np.int64]:
        """(U, K): in how many images the class has a chance of at least 2%."""
        counts: NDArray[np.int64] = self._shown.sum(1)
        return counts

    @property
    def over_chance(self) -> NDArray[np.float64]:
        """(U, K) energy over chance: about 1 for a unit that does not respond to the class.

        The mean over the images that show the class, of equal weight whatever its area. NaN where
        they are fewer than a quarter of the unit's images.
        """
        return self._ratio(self.chance)

    @property
    def over_area(self) -> NDArray[np.float64]:
        """(U, K) energy over area, likewise.

        Gradients are strongest in the middle of the receptive field, where a unit also has what it
        responds to. So this is above 1 for random units too: compare it with theirs.
        """
        return self._ratio(self.area)

    def by_class(self) -> dict[str, NDArray[np.float64]]:
        """By class, `over_chance` of each unit."""
        return dict(zip(self.classes, self.over_chance.T, strict=True))

    def count_reaching(self, ratios: NDArray[np.float64], threshold: float = 2.0) -> dict[str, int]:
        """By class, for how many of the units one of those two is at least `threshold`."""
        counts = (np.nan_to_num(ratios) >= threshold).sum(0)
        return dict(zip(self.classes, map(int, counts), strict=True))

    def rows(self) -> list[dict[str, Any]]:
        """A row for each unit and class; energy, chance and area are means over images."""
        with_gradient = ~np.isnan(self.energy).any(2, keepdims=True)
        n_judged = with_gradient.sum(1)
        means = {
            name: np.divide(
                np.where(with_gradient, getattr(self, name), 0).sum(1),
                n_judged,
                out=np.full((len(self.units), len(self.classes)), np.nan),
                where=n_judged > 0,
            )
            for name in ("energy", "chance", "area")
        }
        columns = {**means, "over_chance": self.over_chance, "over_area": self.over_area}
        n_images = self.n_images
        return [
            {
                "unit": unit,
                "class": name,
                **{key: float(values[row, k]) for key, values in columns.items()},
                "n_images": int(n_images[row, k]),
            }
            for row, unit in enumerate(self.units)
            for k, name in enumerate(self.classes)
        ]

    @property
    def _shown(self) -> NDArray[np.bool_]:
        shown: NDArray[np.bool_] = (self.chance >= _PRESENT) & ~np.isnan(self.energy)
        return shown

    def _ratio(self, fraction: NDArray[np.float64]) -> NDArray[np.float64]:
        shown, count = self._shown, self.n_images
        ratios = np.where(shown, self.energy / np.where(shown, fraction, 1), 0)
        judged = count >= max(1, _JUDGED * self.energy.shape[1])
        return np.where(judged, ratios.sum(1) / np.maximum(count, 1), np.nan)


def concept_fractions(
    model: nn.Module,
    source: RenderedSource,
    largest: MaxActivations,
    *,
    rule: str = "strict",
    batch_size: int = 100,
    progress: ProgressCallback = no_progress,
) -> ConceptFractions:
    """Where the guided gradients of units lie in their strongest images, class by class.

    For each unit and image the gradient is squared and summed over colours. The fraction of that
    energy inside a class's mask is compared with the fraction of the receptive field inside it,
    every pixel of equal weight (area) or of the weight that the position gives it (chance).

    Args:
        model: in evaluation mode.
        source: images whose masks are known.
        largest: the images of each unit, by `max_activations` on the same source.
        rule: as in `guided_backprop`.
        batch_size: images in a forward and backward pass.
        progress: called with how many gradients were taken.

    Raises:
        DissectError: what `guided_backprop` raises.
    """
    n_units, k = largest.image.shape
    n_classes = len(source.classes)
    energy, chance, area = (np.zeros((n_units * k, n_classes)) for _ in range(3))
    positions = largest.position.reshape(-1, 2)
    images = largest.image.reshape(-1)
    units = np.repeat(np.asarray(largest.units, np.int64), k)

    @cache
    def field(row: int, column: int) -> NDArray[np.float64]:
        return receptive_field(model, largest.layer, (row, column), source.size, rule=rule)

    for first in range(0, len(images), batch_size):
        part = slice(first, first + batch_size)
        gradients = guided_backprop(
            model,
            to_tensor(source.images(images[part])),
            largest.layer,
            torch.from_numpy(units[part]),
            torch.from_numpy(positions[part]),
            rule=rule,
            batch_size=batch_size,
        )
        masks = source.masks(images[part])
        squared = gradients.double().square().sum(1).numpy()
        for at, (mask, weight) in enumerate(zip(masks, squared, strict=True), first):
            seen = field(*positions[at].tolist())
            # An image in which the unit has no gradient tells nothing about it.
            energy[at] = _by_class(mask, weight, n_classes) if weight.any() else np.nan
            chance[at] = _by_class(mask, seen, n_classes)
            area[at] = _by_class(mask, seen > 0, n_classes)
        progress(len(masks))
    shape = (n_units, k, n_classes)
    return ConceptFractions(
        classes=tuple(source.classes),
        units=largest.units,
        energy=energy.reshape(shape),
        chance=chance.reshape(shape),
        area=area.reshape(shape),
    )


def receptive_field(
    model: nn.Module, layer: str, position: tuple[int, int], size: int, *, rule: str = "strict"
) -> NDArray[np.float64]:
    """The weight of each pixel for the units at a position: (size, size), its sum 1.

    The mean energy of their guided gradients on images of noise, which show no concept (Luo, Li,
    Urtasun and Zemel 2016, "Understanding the effective receptive field in deep convolutional
    neural networks", section 2); 0 outside the receptive field.

    Args:
        model: in evaluation mode; takes images (N, 3, size, size).
        layer: a layer whose output is (N, C, h, w).
        position: row and column of its grid.
        size: height and width of the images.
        rule: as in `guided_backprop`.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 2, stride=2)).eval()
    >>> (receptive_field(model, "2", (0, 1), 4) > 0)[0].tolist()
    [False, False, True, True]
    """
    random = torch.Generator().manual_seed(_NOISE_SEED)
    noise = torch.rand(_NOISE_IMAGES, 3, size, size, generator=random) * 2 - 1
    positive = activations(model, layer, noise, to="cpu")[:, :, position[0], position[1]] > 0
    # Units that are not positive hardly have a gradient.
    some = positive.any(1)
    if not bool(some.any()):
        return np.full((size, size), 1 / size**2)
    units = torch.multinomial(positive[some].float(), 1, generator=random).squeeze(1)
    gradients = guided_backprop(model, noise[some], layer, units, position, rule=rule)
    energy = gradients.double().square().sum(1)
    total = energy.sum((1, 2), keepdim=True)
    field: NDArray[np.float64] = (energy / total)[total.flatten() > 0].mean(0).numpy()
    return field


def _by_class(
    mask: NDArray[np.uint8], weight: NDArray[np.generic], n_classes: int
) -> NDArray[np.float64]:
    """The fraction of the sum of the weights that lies in each class."""
    inside = np.bincount(mask.ravel(), weight.ravel(), n_classes).astype(np.float64)
    fractions: NDArray[np.float64] = inside / inside.sum()
    return fractions
