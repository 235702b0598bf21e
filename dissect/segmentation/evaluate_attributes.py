"""The error of an attribute reader on rendered images that it was not trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect._utils.result import Result
from dissect.data import RenderedSource, source
from dissect.segmentation.attribute_reader import AttributeReader
from dissect.segmentation.segmenter import Segmenter

__all__ = ["AttributeErrors", "evaluate_attributes", "r_squared"]


@dataclass(frozen=True, repr=False)
class AttributeErrors(Result):
    """The error of a reader on rendered images whose attributes are known.

    Attributes:
        names: the attributes.
        r_squared: the fraction of each attribute's variance that is explained, at most 1.
        mean_error: mean absolute error, in the attribute's unit.
        n: number of images.
        seed: of the images.
    """

    names: tuple[str, ...]
    r_squared: tuple[float, ...]
    mean_error: tuple[float, ...]
    n: int
    seed: int

    def rows(self) -> list[dict[str, Any]]:
        """One row for each attribute."""
        columns = zip(self.names, self.r_squared, self.mean_error, strict=True)
        return [
            {"attribute": name, "r_squared": explained, "mean_error": error}
            for name, explained, error in columns
        ]


def evaluate_attributes(
    reader: AttributeReader, renders: str = "faces", *, n: int = 1_000, seed: int = 1
) -> AttributeErrors:
    """The reader's error on the first `n` renders of a seed.

    The bundled networks were trained on seed 0. Only attributes that the reader and the renders
    both have are compared.

    Args:
        reader: what is evaluated.
        renders: `faces`, whose attributes are drawn with them, or `bedrooms`, whose attributes
            are the areas and sides of their masks (`AttributeReader.from_segmenter`).
        n: number of images.
        seed: of the images.

    Raises:
        DissectError: unknown renders, or no attribute in common.
    """
    if renders not in _RENDERS:
        raise DissectError(f"unknown renders {renders!r}: use {' or '.join(_RENDERS)}")
    images, names, true = _RENDERS[renders](n, seed, reader.image_size or 64)
    shared = [name for name in names if name in reader.names]
    if not shared:
        raise DissectError(f"the reader has other attributes than the rendered {renders}")
    read = reader.read(images)[:, [reader.column(name) for name in shared]].numpy()
    true = true[:, [names.index(name) for name in shared]]
    return AttributeErrors(
        names=tuple(shared),
        r_squared=tuple(r_squared(true, read).tolist()),
        mean_error=tuple(np.abs(true - read).mean(0).tolist()),
        n=n,
        seed=seed,
    )


def r_squared(true: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 less the squared error over the variance, for each column of (N, K).

    >>> r_squared(np.array([[0.0], [2.0], [4.0]]), np.array([[0.0], [2.0], [2.0]])).tolist()
    [0.5]
    """
    residual = ((true - predicted) ** 2).sum(0, dtype=np.float64)
    total = ((true - true.mean(0)) ** 2).sum(0, dtype=np.float64)
    return np.asarray(1 - residual / np.maximum(total, 1e-12))


Known = tuple[Tensor, Sequence[str], NDArray[np.floating]]
"""Images (N, 3, H, W), the names of their attributes, and these, (N, A)."""


def _faces(n: int, seed: int, size: int) -> Known:
    from dissect.data.synthetic import faces

    images = np.stack([faces.render(index, seed, size)[0] for index in range(n)])
    return to_tensor(images), faces.ATTRIBUTES, faces.attributes(range(n), seed)


def _bedrooms(n: int, seed: int, size: int) -> Known:
    rooms = source("bedrooms", size=size, count=n, seed=seed)
    if not isinstance(rooms, RenderedSource):
        raise DissectError("bedrooms are not rendered here")
    images = to_tensor(rooms.images(range(n)))
    masks = torch.from_numpy(rooms.masks(range(n))).long()
    true = AttributeReader.from_segmenter(Segmenter(rooms.classes, lambda _: masks))
    return images, true.names, true.read(images).numpy()


_RENDERS: Mapping[str, Callable[[int, int, int], Known]] = {"faces": _faces, "bedrooms": _bedrooms}
