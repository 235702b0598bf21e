"""Weights drawn from a seed, without a trace in the random numbers of the process."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """In the block torch draws on the CPU from `seed`; afterwards it goes on as if nothing was.

    >>> with seeded(3):
    ...     first = torch.rand(2)
    >>> with seeded(3):
    ...     torch.equal(first, torch.rand(2))
    True
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the GPUs, too.
        torch.default_generator.manual_seed(seed)
        yield
