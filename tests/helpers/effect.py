"""Images that a latent spells out, a segmenter that is right, and edits that paint."""

from contextlib import contextmanager

import torch
from torch import nn

from dissect.effect.measure import measure_effect
from dissect.hooks import edit
from dissect.segmentation import Segmenter

__all__ = ["EYES", "Picture", "effect_of", "painted", "scene"]


class Picture(nn.Module):
    """Draws its latent: (N, 3 * 16 * 16) to images (N, 3, 16, 16)."""

    def __init__(self):
        super().__init__()
        self.grid = nn.Unflatten(1, (3, 16, 16))

    def forward(self, z):
        return self.grid(z)


# Dark is wall, bright is window, between them is door.
EYES = Segmenter(
    ("wall", "door", "window"),
    lambda images: (images.mean(1) > -0.5).long() + (images.mean(1) > 0.5).long(),
    features=lambda images: images.mean((2, 3)),
)


def scene(windows):
    """Images of -1 with one block of 1, 6 x 4 pixels, on those listed."""
    images = torch.full((4, 3, 16, 16), -1.0)
    for place in windows:
        images[place, :, 4:10, 4:8] = 1.0
    return images.flatten(1)


@contextmanager
def painted(model, value, rows, columns):
    """Every image is painted over in a rectangle."""

    def paint(images):
        images[:, :, rows, columns] = value
        return images

    with edit(model, {"grid": paint}):
        yield


def effect_of(value, rows, columns, windows=(0, 1), batch_size=None):
    model = Picture().eval()
    change = lambda: painted(model, value, slice(*rows), slice(*columns))  # noqa: E731
    return measure_effect(model, EYES, scene(windows), "window", change, batch_size=batch_size)
