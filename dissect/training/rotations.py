"""An auxiliary task for the discriminator: by how many quarter turns was a real image turned?

Chen, Zhai, Ritter, Lucic and Houlsby 2019, "Self-supervised GANs via auxiliary rotation loss"
(arXiv 1811.11212), the discriminator's half of it: who is to see which way up an image is must
know what is on it, and goes on knowing it while the game against the generator changes. No labels
are used. Not part of the DCGAN paper, and off by default.
"""

import numpy as np
import torch
from torch import Tensor, nn

from dissect.models.dcgan import Discriminator, initialize

__all__ = ["RotationReader", "turned"]

_TURNS = 4


class RotationReader(nn.Sequential):
    """Images as the discriminator takes them to logits (N, 4): turned by 0, 90, 180, 270 degrees.

    Its convolutions are the discriminator's own, not copies; the last layer is its own, and is
    left behind when the networks are saved.

    Args:
        discriminator: whose features are read.
    """

    def __init__(self, discriminator: Discriminator) -> None:
        *features, score = discriminator.children()
        linear = score.get_submodule("linear")
        assert isinstance(linear, nn.Linear)
        super().__init__(
            *features, nn.Sequential(nn.Flatten(), nn.Linear(linear.in_features, _TURNS))
        )
        initialize(self.head)

    @property
    def head(self) -> nn.Module:
        """The part that is not the discriminator's."""
        return self[-1]


def turned(images: Tensor, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """`images` (N, C, S, S), each turned by 0 to 3 quarters by chance, and the quarters (N,).

    Args:
        images: square ones.
        key: what chance is drawn from: the same key, the same turns.
    """
    quarters = np.random.default_rng(key).integers(0, _TURNS, len(images))
    choice = torch.from_numpy(quarters).to(images.device)
    result = images.clone()
    for quarter in range(1, _TURNS):
        chosen = choice == quarter
        result[chosen] = torch.rot90(images[chosen], quarter, (2, 3))
    return result, choice
