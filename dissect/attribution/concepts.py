"""Which concepts a unit answers to: where the energy of its gradients lies, against chance."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dissect._utils.images import to_tensor
from dissect._utils.progress import ProgressCallback, no_progress
from dissect.attribution.methods import guided_backprop
from dissect.attribution.responses import Responses
from dissect.data import RenderedSource
from dissect.hooks import activations

__all__ = ["ConceptShares", "concept_shares", "receptive_field"]

# From this share of a receptive field on (6 pixels square of 46) a class is there to be answered
# to. Of less, at the rim where chance has next to nothing, any ratio can come about.
_PRESENT = 0.02
# A unit is judged by the images that show a class, if it is in this share of them.
_JUDGED = 0.25
_NOISE_IMAGES, _NOISE_SEED = 64, 0


@dataclass(frozen=True)
class ConceptShares:
    """Of U units in N images each, how much of what a unit answers to lies in each of K classes.

    Attributes:
        classes: the names of the K classes.
        units: the U units.
        energy: (U, N, K), the share of the squared gradient that lies inside the class's mask; NaN
            in an image where the unit has no gradient.
        chance: (U, N, K), the same share of `receptive_field`: what a unit has there that answers
            to nothing in the image.
        area: (U, N, K), the share of the receptive field's pixels that the mask has.
    """

    classes: tuple[str, ...]
    units: tuple[int, ...]
    energy: NDArray[np.float64]
    chance: NDArray[np.float64]
    area: NDArray[np.float64]

    @property
    def images(self) -> NDArray[np.int64]:
        """(U, K): in how many images the class has a chance of at least 2%."""
        counts: NDArray[np.int64] = self._shown.sum(1)
        return counts

    @property
    def over_chance(self) -> NDArray[np.float64]:
        """(U, K) energy over chance: about 1 for a unit that does not care.

        The mean over the images that show the class, each counting alike however much of it there
        is. NaN where they are fewer than a quarter of the unit's images.
        """
        return self._over(self.chance)

    @property
    def over_area(self) -> NDArray[np.float64]:
        """(U, K) energy over area, likewise.

        Gradients are strongest in the middle of the receptive field, where a unit also has what it
        responds to. So this is above 1 for random units too: compare it with theirs.
        """
        return self._over(self.area)

    def by_class(self) -> dict[str, NDArray[np.float64]]:
        """By class, `over_chance` of each unit."""
        return dict(zip(self.classes, self.over_chance.T, strict=True))

    def reaching(self, ratios: NDArray[np.float64], threshold: float = 2.0) -> dict[str, int]:
        """By class, for how many of the units one of those two is at least `threshold`."""
        counts = (np.nan_to_num(ratios) >= threshold).sum(0)
        return dict(zip(self.classes, map(int, counts), strict=True))

    @property
    def _shown(self) -> NDArray[np.bool_]:
        shown: NDArray[np.bool_] = (self.chance >= _PRESENT) & ~np.isnan(self.energy)
        return shown

    def _over(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        shown, count = self._shown, self.images
        ratios = np.where(shown, self.energy / np.where(shown, share, 1), 0)
        judged = count >= max(1, _JUDGED * self.energy.shape[1])
        return np.where(judged, ratios.sum(1) / np.maximum(count, 1), np.nan)


def concept_shares(
    model: nn.Module,
    source: RenderedSource,
    responses: Responses,
    *,
    rule: str = "strict",
    batch_size: int = 100,
    progress: ProgressCallback = no_progress,
) -> ConceptShares:
    """Where the guided gradients of units lie in their strongest images, class by class.

    For each unit and image the gradient is squared and summed over colours; the share of that
    energy inside a class's mask stands against the share that the mask has of the receptive
    field, with every pixel counted alike (area) or as much as the place sees of it (chance).

    Args:
        model: in evaluation mode.
        source: images whose masks are known.
        responses: what `strongest` found in it.
        rule: as in `guided_backprop`.
        batch_size: images in a forward and backward pass.
        progress: called with how many gradients were taken.

    Raises:
        DissectError: what `guided_backprop` raises.
    """
    n_units, k = responses.image.shape
    classes = len(source.classes)
    energy, chance, area = (np.zeros((n_units * k, classes)) for _ in range(3))
    places = responses.place.reshape(-1, 2)
    rows = responses.image.reshape(-1)
    units = np.repeat(np.asarray(responses.units, np.int64), k)
    field = _fields(model, responses.layer, source.size, rule)
    for first in range(0, len(rows), batch_size):
        part = slice(first, first + batch_size)
        gradients = guided_backprop(
            model,
            to_tensor(source.images(rows[part])),
            responses.layer,
            torch.from_numpy(units[part]),
            torch.from_numpy(places[part]),
            rule=rule,
            batch_size=batch_size,
        )
        masks = source.masks(rows[part])
        squared = gradients.double().square().sum(1).numpy()
        for at, (mask, weight) in enumerate(zip(masks, squared, strict=True), first):
            seen = field((int(places[at, 0]), int(places[at, 1])))
            # An image in which the unit has no gradient says nothing of it.
            energy[at] = _shares(mask, weight, classes) if weight.any() else np.nan
            chance[at] = _shares(mask, seen, classes)
            area[at] = _shares(mask, seen > 0, classes)
        progress(len(masks))
    shape = (n_units, k, classes)
    return ConceptShares(
        classes=tuple(source.classes),
        units=responses.units,
        energy=energy.reshape(shape),
        chance=chance.reshape(shape),
        area=area.reshape(shape),
    )


def receptive_field(
    model: nn.Module, layer: str, place: tuple[int, int], size: int, *, rule: str = "strict"
) -> NDArray[np.float64]:
    """How much the units at a place see of each pixel: (size, size), its sum 1.

    The mean energy of their guided gradients on images of noise, where there is nothing to answer
    to (Luo, Li, Urtasun and Zemel 2016, "Understanding the effective receptive field in deep
    convolutional neural networks", section 2); 0 outside the receptive field.

    Args:
        model: in evaluation mode; takes images (N, 3, size, size).
        layer: a layer whose output is (N, C, h, w).
        place: row and column of its grid.
        size: height and width of the images.
        rule: as in `guided_backprop`.
    """
    random = torch.Generator().manual_seed(_NOISE_SEED)
    noise = torch.rand(_NOISE_IMAGES, 3, size, size, generator=random) * 2 - 1
    positive = activations(model, layer, noise, to="cpu")[:, :, place[0], place[1]] > 0
    # Units that are not positive have no gradient to speak of.
    some = positive.any(1)
    if not bool(some.any()):
        return np.full((size, size), 1 / size**2)
    units = torch.multinomial(positive[some].float(), 1, generator=random).squeeze(1)
    gradients = guided_backprop(model, noise[some], layer, units, place, rule=rule)
    energy = gradients.double().square().sum(1)
    total = energy.sum((1, 2), keepdim=True)
    field = (energy / total)[total.flatten() > 0].mean(0)
    seen: NDArray[np.float64] = field.numpy()
    return seen


def _fields(
    model: nn.Module, layer: str, size: int, rule: str
) -> Callable[[tuple[int, int]], NDArray[np.float64]]:
    """`receptive_field` by place, each found once."""
    known: dict[tuple[int, int], NDArray[np.float64]] = {}

    def field(place: tuple[int, int]) -> NDArray[np.float64]:
        if place not in known:
            known[place] = receptive_field(model, layer, place, size, rule=rule)
        return known[place]

    return field


def _shares(
    mask: NDArray[np.uint8], weight: NDArray[np.generic], classes: int
) -> NDArray[np.float64]:
    """Of the sum of the weights, the share that lies in each class."""
    inside = np.bincount(mask.ravel(), weight.ravel(), classes).astype(np.float64)
    shares: NDArray[np.float64] = inside / inside.sum()
    return shares
