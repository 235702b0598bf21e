"""Connected regions of a segmentation, each given one class."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["majority_vote", "region_class_ids"]

# Pixels of one image that share a side are connected; images of a batch never are.
_CONNECTED = np.zeros((3, 3, 3), bool)
_CONNECTED[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


def region_class_ids(classes: Sequence[str], region_classes: Sequence[str]) -> Tensor:
    """The numbers of those of `region_classes` that are among `classes`, int64.

    >>> region_class_ids(("wall", "window", "mirror"), ("mirror", "picture", "window"))
    tensor([2, 1])
    """
    ids = [classes.index(name) for name in region_classes if name in classes]
    return torch.tensor(ids, dtype=torch.int64)


def majority_vote(labels: Tensor, probability: Tensor, class_ids: Tensor) -> Tensor:
    """Labels in which every connected region of the classes `class_ids` has a single class.

    A network decides pixel by pixel, and may call half of a window a picture. A region takes the
    class whose probability, summed over its pixels, is the largest.

    Args:
        labels: the most probable class of every pixel, (N, H, W) int64.
        probability: of each of `class_ids`, (N, len(class_ids), H, W).
        class_ids: the classes that compete for a region, (K,) int64.

    Returns:
        (N, H, W) int64. Pixels of other classes are unchanged.
    """
    competing = torch.isin(labels, class_ids.to(labels.device))
    # With a single class there is nothing to decide; scipy is slow to import.
    if len(torch.unique(labels[competing])) < 2:
        return labels
    from scipy import ndimage

    mask = competing.cpu().numpy()
    regions, count = ndimage.label(mask, _CONNECTED)
    regions = regions[mask]
    weights = probability.movedim(1, -1).cpu().double().numpy()[mask]
    sums = np.stack([np.bincount(regions, column, count + 1) for column in weights.T], 1)
    winners = class_ids.cpu()[torch.from_numpy(sums.argmax(1)[regions])]
    voted = labels.clone()
    voted[torch.from_numpy(mask).to(labels.device)] = winners.to(labels.device)
    return voted
