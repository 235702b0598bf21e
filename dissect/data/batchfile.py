"""The pickled batches of CIFAR-10, read without running anything that they say.

A pickle is a program: it names functions and calls them. The official batches name three, all of
numpy, to make one array of bytes. Here those names stand for classes of our own that only keep
what they are given, any other name is refused, and the array is made from what was kept.
"""

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError

__all__ = ["read_batch", "read_names"]

_ALLOWED = {"numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype"}


class _Kept:
    """Stands for an array or a type of numbers: the arguments it was made with, and its state."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Kept]:
        if f"{module}.{name}" not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which a batch of CIFAR-10 does not hold"
            )
        return _Kept


def read_batch(
    content: bytes, name: str, classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images uint8 (N, 32, 32, 3) and labels int64 (N,) of one official batch.

    Args:
        content: the file.
        name: what to call it in an error.
        classes: how many there are; labels run from 0.

    Raises:
        DissectError: cut short, no such pickle, one that names anything else, or wrong shapes.
    """
    batch = _unpickled(content, name)
    pixels = _pixels(batch.get(b"data"), name)
    labels = batch.get(b"labels")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DissectError(f"{name} has no list of labels; it is no batch of CIFAR-10")
    if len(labels) != len(pixels) or not labels:
        raise DissectError(
            f"{name} is damaged: it holds {len(pixels)} images and {len(labels)} labels"
        )
    if not 0 <= min(labels) <= max(labels) < classes:
        raise DissectError(f"{name} is damaged: labels must be from 0 to {classes - 1}")
    # A row is the red plane, the green, the blue.
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(labels, np.int64)


def read_names(content: bytes, name: str) -> list[str]:
    """The names of the classes in the official `batches.meta`.

    Raises:
        DissectError: as `read_batch`.
    """
    names = _unpickled(content, name).get(b"label_names")
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise DissectError(f"{name} has no list of label names; it is no batches.meta of CIFAR-10")
    return [name.decode("ascii", "backslashreplace") for name in names]


def _unpickled(content: bytes, name: str) -> dict[Any, Any]:
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    # Broken pickles fail in every way, down to IndexError and MemoryError.
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise DissectError(
            f"{name} is cut short or no batch of CIFAR-10 (python version): {why}"
        ) from error
    if not isinstance(batch, dict):
        raise DissectError(f"{name} is no batch of CIFAR-10: it holds no table")
    return batch


def _pixels(array: Any, name: str) -> NDArray[np.uint8]:
    """The array uint8 (N, 3072) that `array` stands for."""
    match array:
        # Version, shape, type, whether by column, bytes: as numpy pickles an array.
        case _Kept(
            state=(_, (int(rows), 3072), _Kept(args=(b"u1" | "u1", *_)), False, bytes(data))
        ):
            if len(data) == rows * 3072:
                return np.frombuffer(data, np.uint8).reshape(-1, 3072)
    raise DissectError(f"{name} is no batch of CIFAR-10: its data is not uint8 of (N, 3072)")
