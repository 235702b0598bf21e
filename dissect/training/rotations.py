"""An auxiliary task for the discriminator: by how many quarter turns was a real image turned?

Chen, Zhai, Ritter, Lucic and Houlsby 2019, "Self-supervised GANs via auxiliary rotation loss"
(arXiv 1811.11212), the discriminator's half of it: who is to see which way up an image is must
know what is on it.
"""

import numpy as np
import torch
from torch import Tensor

__all__ = ["TURNS", "turned"]

TURNS = 4


def turned(
    images: Tensor, key: tuple[int, ...], *, first: int = 0, total: int | None = None
) -> tuple[Tensor, Tensor]:
    """`images` (N, C, S, S), each turned by 0 to 3 quarters by chance, and the quarters (N,).

    Args:
        images: square ones.
        key: what chance is drawn from: the same key, the same turns.
        first: where these images lie in a batch of `total`, of which other processes hold the
            rest; the turns are those that they would get in the whole batch.
        total: None is N.
    """
    whole = len(images) if total is None else total
    quarters = np.random.default_rng(key).integers(0, TURNS, whole)[first : first + len(images)]
    choice = torch.from_numpy(quarters).to(images.device)
    result = images.clone()
    for quarter in range(1, TURNS):
        chosen = choice == quarter
        result[chosen] = torch.rot90(images[chosen], quarter, (2, 3))
    return result, choice
