"""Seeded latents: the i-th depends on the seed and on i alone."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dissect._utils.errors import DissectError

__all__ = ["Distribution", "MakeLatents", "latents"]

Distribution = Literal["uniform", "normal"]
MakeLatents = Callable[[int, int, int], Tensor]
"""(n, seed, start) to the latents of one model, the first axis n long."""

# A Philox counter yields four 64-bit words, one word makes one double.
_WORDS_PER_COUNTER = 4


def latents(
    n: int,
    seed: int = 0,
    *,
    start: int = 0,
    size: int = 100,
    distribution: Distribution = "uniform",
    device: str | torch.device = "cpu",
) -> Tensor:
    """`n` latents of shape (n, size), float32; row i is a function of (seed, start + i) alone.

    Neither the batch size nor the number asked for changes a row: `latents(9, start=3)` is
    `latents(12)[3:]`. The counter-based generator Philox is what makes that cheap.

    Args:
        n: how many, at least 0.
        seed: at least 0; each seed gives other latents.
        start: index of the first row among those of the seed.
        size: components of a latent (100 in the paper).
        distribution: `uniform` on [-1, 1] (Radford et al. 2015, section 4) or standard `normal`.
        device: where the tensor goes; the values are always drawn on the CPU.

    Raises:
        DissectError: a negative count, seed or start, a size below 1, or an unknown distribution.

    >>> z = latents(3, seed=0)
    >>> tuple(z.shape), bool((z[1:] == latents(2, seed=0, start=1)).all())
    ((3, 100), True)
    """
    if n < 0 or seed < 0 or start < 0 or size < 1:
        raise DissectError(
            f"latents need n, seed, start >= 0 and size >= 1; got n={n}, seed={seed}, "
            f"start={start}, size={size}"
        )
    if distribution not in ("uniform", "normal"):
        raise DissectError(f"unknown distribution {distribution!r}: use 'uniform' or 'normal'")
    counters_per_row = -(-size // _WORDS_PER_COUNTER)
    stream = np.random.Philox(key=seed).advance(start * counters_per_row)
    unit = np.random.Generator(stream).random((n, counters_per_row * _WORDS_PER_COUNTER))
    values = torch.from_numpy(unit[:, :size])
    if distribution == "uniform":
        values = 2.0 * values - 1.0
    else:
        # The inverse of the distribution function takes one word a value, whatever the value;
        # rejection samplers do not, and would tie a row to the rows before it.
        values = torch.special.ndtri(values.clamp(min=2.0**-54))
    return values.float().to(device)
