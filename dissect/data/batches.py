"""Shuffled batches whose order is a pure function of the seed and the step."""

from collections.abc import Iterator, Sized
from itertools import count

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError

__all__ = ["batch_at", "batches"]


def batches(
    source: Sized, batch_size: int, seed: int = 0, start_step: int = 0
) -> Iterator[NDArray[np.int64]]:
    """An endless stream of index arrays (batch_size,), beginning with the one of `start_step`.

        for indices in batches(images, 128, seed=0, start_step=resumed_at):
            x = to_tensor(images.images(indices))

    An epoch visits every index at most once, in an order drawn from (seed, epoch); what does not
    fill a last batch is left out of that epoch. Step s is always the same batch, so a training
    that resumes at s sees what it would have seen.

    Raises:
        DissectError: a batch size outside 1 to len(source), a negative seed or step.
    """
    length = len(source)
    _check(length, batch_size, seed, start_step)
    return _stream(length, batch_size, seed, start_step)


def _stream(
    length: int, batch_size: int, seed: int, start_step: int
) -> Iterator[NDArray[np.int64]]:
    steps_per_epoch = length // batch_size
    first_epoch, offset = divmod(start_step, steps_per_epoch)
    for epoch in count(first_epoch):
        order = _order(length, seed, epoch)
        for step in range(offset, steps_per_epoch):
            yield order[step * batch_size : (step + 1) * batch_size].copy()
        offset = 0


def batch_at(length: int, batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    """The index array (batch_size,) that `batches` yields at `step`, for `length` images.

    Raises:
        DissectError: as `batches`.
    """
    _check(length, batch_size, seed, step)
    return next(_stream(length, batch_size, seed, step))


def _order(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(length)


def _check(length: int, batch_size: int, seed: int, step: int) -> None:
    if not 1 <= batch_size <= length:
        raise DissectError(f"batch size {batch_size} must be from 1 to the {length} images")
    if seed < 0 or step < 0:
        raise DissectError(f"seed and step must be at least 0; got seed {seed}, step {step}")
