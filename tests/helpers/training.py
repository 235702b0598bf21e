"""A training small enough to run in a moment."""

import numpy as np
import torch

from dissect.training import TrainConfig

__all__ = ["CPU", "TINY", "Stripes", "same", "weights"]

CPU = torch.device("cpu")
TINY = TrainConfig(
    steps=6,
    batch_size=8,
    image_size=16,
    latent_size=5,
    generator_width=4,
    discriminator_width=4,
    kernel=4,
)


class Stripes:
    """Sixteen images: stripes of a brightness of their own."""

    name, size = "stripes", 16

    def __len__(self):
        return 16

    def images(self, indices):
        rows = np.asarray(indices)[:, None, None, None] * 10
        ramp = np.arange(16)[None, :, None, None] % 2 * 90
        return np.broadcast_to(rows + ramp, (len(indices), 16, 16, 3)).astype(np.uint8)


def weights(state):
    return {name: value.clone() for name, value in state.tensors().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
