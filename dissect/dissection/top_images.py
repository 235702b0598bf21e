"""The samples that each unit answers to most, and where on them it is on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect._utils.display import ShortRepr
from dissect._utils.images import to_images
from dissect.dissection.result import Dissection
from dissect.dissection.upsampling import Upsampling
from dissect.hooks import record
from dissect.models import generate, latents_for
from dissect.surgery.frame import in_picture, picture_frame

__all__ = ["TopImages", "top_images"]

_BATCH = 50


@dataclass(frozen=True, repr=False)
class TopImages(ShortRepr):
    """Every sample that is among the strongest of some unit, drawn once.

    Attributes:
        images: (S, H, W, 3) uint8.
        place: for each layer (C, T), which of the images is the unit's strongest, second, ...
        on: for each layer (C, T, H, W), where the unit is above its threshold on it.
    """

    images: NDArray[np.uint8]
    place: dict[str, NDArray[np.int64]]
    on: dict[str, NDArray[np.bool_]]


def top_images(model: nn.Module, found: Dissection, *, pictures: int = 2_000) -> TopImages:
    """The samples with the largest activations of each unit, drawn again from their latents.

    Args:
        model: the generator that was dissected.
        found: what was found; it tells the most that a unit can have.
        pictures: about how many there may be of all units together; each has one at least.
    """
    per_unit = max(1, pictures // max(1, len(found)))
    wanted = {one.layer: one.top[:, :per_unit] for one in found.layers}
    samples = np.unique(np.concatenate([keys.ravel() for keys in wanted.values()]))
    place = {layer: np.searchsorted(samples, keys) for layer, keys in wanted.items()}
    images: list[NDArray[np.uint8]] = []
    on: dict[str, NDArray[np.bool_]] = {}
    frames = {layer: picture_frame(model, layer) for layer in wanted}
    for first in range(0, len(samples), _BATCH):
        z = _latents(model, samples[first : first + _BATCH].tolist(), found.seed)
        with record(model, *wanted) as acts:
            drawn = generate(model, z, batch_size=len(z))
            images.append(to_images(drawn))
            size = (drawn.shape[2], drawn.shape[3])
            for layer, at in place.items():
                if layer not in on:
                    on[layer] = np.zeros((*at.shape, *size), np.bool_)
                here = (at >= first) & (at < first + len(z))
                units, ranks = here.nonzero()
                grids = in_picture(acts[layer], frames[layer])
                maps = grids[torch.from_numpy(at[here] - first), torch.from_numpy(units)]
                threshold = torch.from_numpy(found[layer].threshold)[torch.from_numpy(units)]
                on[layer][units, ranks] = _above(maps, threshold, size)
    return TopImages(np.concatenate(images), place, on)


def _above(maps: Tensor, threshold: Tensor, size: tuple[int, int]) -> NDArray[np.bool_]:
    maps = maps.float()
    large = Upsampling((maps.shape[1], maps.shape[2]), size, maps.device)(maps)
    above: NDArray[np.bool_] = (large > threshold.to(large)[:, None, None]).cpu().numpy()
    return above


def _latents(model: nn.Module, indices: Sequence[int], seed: int) -> Tensor:
    return torch.cat([latents_for(model, 1, seed, start=index) for index in indices])
