"""What hangs on walls: windows, pictures and mirrors, each of them one thing of one class."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["HUNG", "hung_classes", "one_class_each"]

HUNG = ("window", "picture", "mirror")

# Pixels that touch by a side hang together, within an image.
_TOUCHING = np.zeros((3, 3, 3), bool)
_TOUCHING[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


def hung_classes(classes: Sequence[str]) -> Tensor:
    """The numbers of those classes that hang on walls, int64."""
    found = [classes.index(name) for name in HUNG if name in classes]
    return torch.tensor(found, dtype=torch.int64)


def one_class_each(labels: Tensor, probability: Tensor, things: Tensor) -> Tensor:
    """Labels in which every region of `things` has one class: that of most probability there.

    A network sees pixel by pixel, and may take half a window for a picture.

    Args:
        labels: the most probable class of every pixel (N, H, W), int64.
        probability: of each of `things`, (N, len(things), H, W).
        things: the classes of which a region may be made, int64.
    """
    hung = torch.isin(labels, things.to(labels.device))
    # Where one class hangs alone, each region has it already; scipy takes its time to import.
    if len(torch.unique(labels[hung])) < 2:
        return labels
    from scipy import ndimage

    mask = hung.cpu().numpy()
    regions, count = ndimage.label(mask, _TOUCHING)
    regions = regions[mask]
    chances = probability.movedim(1, -1).cpu().double().numpy()[mask]
    sums = np.stack([np.bincount(regions, one, count + 1) for one in chances.T], 1)
    whole = things.cpu()[torch.from_numpy(sums.argmax(1)[regions])]
    found = labels.clone()
    found[torch.from_numpy(mask).to(labels.device)] = whole.to(labels.device)
    return found
