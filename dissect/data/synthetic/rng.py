"""Seeded draws for one scene."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Rng:
    """Random draws that depend on (seed, index) alone and are the same on every machine."""

    def __init__(self, seed: int, index: int) -> None:
        # The counter-based generator's raw uniforms are fixed by its definition.
        key = np.array([seed % 2**64, index % 2**64], dtype=np.uint64)
        self._generator = np.random.Generator(np.random.Philox(key=key))
        self._left: list[float] = []

    def random(self) -> float:
        """A number in [0, 1)."""
        if not self._left:
            self._left = self._generator.random(192).tolist()
        return self._left.pop()

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.random()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.random() < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.random() * len(options))]
