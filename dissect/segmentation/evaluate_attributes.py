"""How far an attribute reader can be trusted: its error on renders that it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect.segmentation.attribute_reader import AttributeReader

__all__ = ["HeldOut", "held_out", "r_squared"]


@dataclass(frozen=True)
class HeldOut:
    """The error of a reader on renders whose attributes are known.

    Attributes:
        names: the attributes.
        r_squared: the share of an attribute's variance that the reader tells, at most 1.
        mean_error: mean absolute error, in the attribute's unit.
        n: how many renders.
        seed: their series.
    """

    names: tuple[str, ...]
    r_squared: tuple[float, ...]
    mean_error: tuple[float, ...]
    n: int
    seed: int

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        true: NDArray[np.floating],
        predicted: NDArray[np.floating],
        seed: int,
    ) -> "HeldOut":
        """The error of attributes (N, A) read from renders of series `seed`."""
        return cls(
            names=tuple(names),
            r_squared=tuple(r_squared(true, predicted).tolist()),
            mean_error=tuple(np.abs(true - predicted).mean(0).tolist()),
            n=len(true),
            seed=seed,
        )


def held_out(reader: AttributeReader, *, n: int = 1_000, seed: int = 1) -> HeldOut:
    """The reader on the first `n` rendered faces of series `seed`; training uses series 0.

    Raises:
        DissectError: the reader's attributes are not those of the rendered faces.
    """
    from dissect._utils.images import to_tensor
    from dissect.data.synthetic import faces

    if tuple(reader.names) != faces.ATTRIBUTES:
        raise DissectError("the reader has other attributes than the rendered faces")
    size = reader.image_size or 64
    images = np.stack([faces.render(index, seed, size)[0] for index in range(n)])
    predicted = reader.read(to_tensor(images)).numpy()
    true = faces.attributes(range(n), seed)
    return HeldOut.of(reader.names, true, predicted, seed)


def r_squared(true: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 less the squared error over the variance, for each column of (N, K)."""
    rest = ((true - predicted) ** 2).sum(0, dtype=np.float64)
    whole = ((true - true.mean(0)) ** 2).sum(0, dtype=np.float64)
    return np.asarray(1 - rest / np.maximum(whole, 1e-12))
