"""Small labelled images: the sets on which the paper's features are judged (section 5)."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect.data.cache import cache_folder, kept_payload
from dissect.data.protocol import Indices, checked_count, checked_indices

__all__ = ["SIDE", "LabelledSource", "Split", "cached"]

Split = Literal["train", "test"]

SIDE = 32
"""Width and height, in pixels, of the images of every labelled set here."""

_BYTES = SIDE * SIDE * 3
_FORMAT = 1


@dataclass(frozen=True)
class LabelledSource:
    """Images with a class each, in memory or mapped from the cache; an `ImageSource`.

    Attributes:
        name: the spec that opens it again; of the training images.
        pixels: uint8 (N, 32, 32, 3), RGB.
        labels: int64 (N,), places in `classes`.
        classes: the names of the classes.
        size: width and height of the images that it gives, at most 32.
    """

    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    size: int = SIDE

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self)} images of {len(self.classes)} classes>"

    def images(self, indices: Indices) -> NDArray[np.uint8]:
        """The images at `indices`: uint8 (B, size, size, 3), RGB, 0 to 255.

        Raises:
            DissectError: an index is out of range.
        """
        pixels: NDArray[np.uint8] = self.pixels[checked_indices(indices, len(self))]
        if self.size == SIDE or not len(pixels):
            return np.array(pixels).reshape(-1, self.size, self.size, 3)
        from PIL import Image

        return np.stack(
            [
                np.asarray(
                    Image.fromarray(image).resize((self.size, self.size), Image.Resampling.BICUBIC)
                )
                for image in pixels
            ]
        )

    def listing(self) -> tuple[bytes, ...]:
        """The pixels: they are few."""
        return (self.pixels.tobytes(),)

    def first(self, count: int | None, size: int) -> "LabelledSource":
        """The first `count` images (None: all), `size` pixels wide.

        Raises:
            DissectError: there are fewer, or they are smaller.
        """
        if size > SIDE:
            raise DissectError(
                f"{self.name} holds images of {SIDE} pixels, smaller than the {size} asked for: "
                f"use size {SIDE} (dissect train --image-size {SIDE})"
            )
        n = checked_count(count, len(self), self.name)
        return LabelledSource(self.name, self.pixels[:n], self.labels[:n], self.classes, size)


def cached(
    name: str,
    split: Split,
    state: str,
    classes: Sequence[str],
    read: Callable[[], tuple[NDArray[np.uint8], NDArray[np.int64]]],
) -> LabelledSource:
    """What `read` gives, read once and then mapped from the cache folder.

    Args:
        name: the spec of the source.
        split: which of its two parts.
        state: changes when a file of the source changes.
        classes: names of the classes.
        read: gives pixels uint8 (N, 32, 32, 3) and labels (N,).

    Raises:
        DissectError: as `read`, or the cache folder cannot be written.
    """
    key = hashlib.sha256(f"{name}\n{split}".encode()).hexdigest()[:16]
    path = cache_folder() / "labelled" / f"{key}.bin"
    identity = {"format": _FORMAT, "split": split, "state": state}

    def parts() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        pixels, labels = read()
        return np.ascontiguousarray(pixels).reshape(-1), labels.astype(np.uint8)

    payload = kept_payload(path, identity, parts)
    n = len(payload) // (_BYTES + 1)
    pixels = payload[: n * _BYTES].reshape(n, SIDE, SIDE, 3)
    return LabelledSource(name, pixels, payload[n * _BYTES :].astype(np.int64), tuple(classes))
