"""A region of an image filled smoothly from its surroundings."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

__all__ = ["inpaint_background"]

# Of the Gaussian by which what is near counts more, as a fraction of the image's side.
_REACH = 1 / 16


def inpaint_background(images: Tensor, region: Tensor) -> Tensor:
    """The images with the region filled from outside it: smooth, and without edges.

    Each pixel becomes the mean of all pixels outside the region, weighted by a Gaussian of their
    distance (a normalised convolution; Knutsson and Westin 1993). An image that is all region
    stays as it is.

    Args:
        images: (N, C, H, W) float, in any range.
        region: (N, H, W) bool.
    """
    from scipy.ndimage import gaussian_filter

    std = _REACH * max(images.shape[2:])
    free = (~region).unsqueeze(1).double().numpy()
    # So far that the middle of a large region is reached, too.
    sigma = (0, 0, std, std)
    spread = partial(gaussian_filter, sigma=sigma, mode="constant", truncate=16)
    colours, weight = spread(images.double().numpy() * free), spread(free)
    reached = np.broadcast_to(weight > 0, colours.shape)
    mean = np.divide(colours, weight, out=images.double().numpy(), where=reached)
    return torch.from_numpy(mean).to(images.dtype)
