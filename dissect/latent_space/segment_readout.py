"""What bedrooms show: how much there is of each class, and how far to a side."""

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect.data import RenderedSource, source
from dissect.segmentation import AttributeReader, Segmenter
from dissect.segmentation.evaluate_attributes import HeldOut

__all__ = ["held_out_rooms", "segment_reader"]

_SPECK = 0.01  # share of the pixels below which a side counts for less than half


def segment_reader(segmenter: Segmenter) -> AttributeReader:
    """Attributes of segmented images: each class's share of the pixels, and how far to a side.

    `window` is the share, 0 to 1. `window_side` is the mean horizontal position of the pixels, -1
    at the left edge and 1 at the right, drawn towards 0 where they are few: 0 where there is none,
    so that what fades away leaves the scale without a jump.

    Slopes are those of the same sums over the segmenter's probabilities, where it has any.
    """
    count = len(segmenter.classes)
    names = (*segmenter.classes, *(f"{name}_side" for name in segmenter.classes))

    def seen(images: Tensor) -> Tensor:
        labels = segmenter.labels(images)
        return _amounts(torch.stack([(labels == k).float() for k in range(count)], 1))

    probability = segmenter.probability
    slopes = None if probability is None else lambda images: _amounts(probability(images))
    return AttributeReader(names, seen, segmenter.features, slopes_through=slopes)


def _amounts(masks: Tensor) -> Tensor:
    """Shares and sides (N, 2 K) of masks (N, K, H, W)."""
    shares = masks.mean((2, 3))
    across = torch.linspace(-1, 1, masks.shape[3]).to(masks)
    return torch.cat([shares, (masks.mean(2) * across).mean(2) / (shares + _SPECK)], 1)


def held_out_rooms(reader: AttributeReader, *, n: int = 1_000, seed: int = 1) -> HeldOut:
    """A reader of bedrooms on the first `n` renders of series `seed`, against their true masks.

    The bundled segmenter was trained on series 0. Of a reader with other attributes, those are
    scored that masks give too.

    Raises:
        DissectError: no attribute in common.
    """
    rooms = source("bedrooms", count=n, seed=seed)
    assert isinstance(rooms, RenderedSource)
    images = to_tensor(rooms.images(range(n)))
    masks = torch.from_numpy(rooms.masks(range(n)))
    known = segment_reader(Segmenter(rooms.classes, lambda _: masks.long()))
    shared = [name for name in known.names if name in reader.names]
    if not shared:
        raise DissectError("the reader has other attributes than the rendered bedrooms")
    true, predicted = (
        each.read(images)[:, [each.number(name) for name in shared]].numpy()
        for each in (known, reader)
    )
    return HeldOut.of(shared, true, predicted, seed)
