"""Street View House Numbers (Netzer et al. 2011), cropped digits: the official .mat files."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.io import user_path
from dissect.data.cache import files_state
from dissect.data.labelled import SIDE, LabelledSource, Split, cached

__all__ = ["CLASSES", "svhn"]

CLASSES = tuple(map(str, range(10)))


def svhn(path: str, split: Split = "train", *, show_progress: bool | None = None) -> LabelledSource:
    """The training or the test digits of the SVHN in the folder `path`.

    Args:
        path: the folder with `train_32x32.mat` and `test_32x32.mat`.
        split: "train" or "test".
        show_progress: not used: reading takes a few seconds.

    Raises:
        DissectError: an absent file, one that is damaged or lacks X or y, or shapes that differ.
    """
    root = user_path(path)
    file = root / f"{split}_32x32.mat"
    if not file.is_file():
        raise DissectError(
            f"{path} has no {file.name}; svhn: needs the folder with train_32x32.mat and "
            "test_32x32.mat (format 2, cropped digits)"
        )
    return cached(
        f"svhn:{path}", split, files_state(root, [file.name]), CLASSES, lambda: _read(file)
    )


def _read(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from scipy.io import loadmat

    try:
        arrays: dict[str, Any] = loadmat(file, variable_names=("X", "y"))
    # The reader meets broken files with errors of every kind.
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise DissectError(f"{file} is cut short or no MATLAB file: {why}") from error
    if absent := [key for key in ("X", "y") if key not in arrays]:
        raise DissectError(
            f"{file} has no {' and no '.join(absent)}; SVHN's files hold X (32, 32, 3, N) and y"
        )
    images, labels = np.asarray(arrays["X"]), np.asarray(arrays["y"]).reshape(-1)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (SIDE, SIDE, 3):
        raise DissectError(
            f"{file}: X must be uint8 (32, 32, 3, N); it is {images.dtype} {images.shape}"
        )
    if len(labels) != images.shape[3] or not len(labels):
        raise DissectError(f"{file} holds {images.shape[3]} images and {len(labels)} labels")
    wanted = np.arange(1, 11)
    if not np.isin(labels, wanted).all():
        raise DissectError(f"{file}: labels must be 1 to 10 (10 is the digit 0)")
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels.astype(np.int64) % 10
