"""Faces cut out of photographs."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.io import user_path, write_image
from dissect._utils.progress import progress_bar
from dissect._utils.result import Result
from dissect.data.decode import UnreadableImageError, whole_image
from dissect.data.folder import FolderSource

__all__ = ["CroppedFaces", "crop_faces", "face_boxes"]

_CASCADE = "haarcascade_frontalface_default.xml"
_LEAST = 24  # pixels: what the cascade was trained on


@dataclass(frozen=True, repr=False)
class CroppedFaces(Result):
    """The faces of a folder of photographs.

    Attributes:
        files: the faces written.
        n_images: photographs looked at.
        n_too_small: detected faces that are smaller than asked for.
        n_without_faces: photographs in which none was detected.
        skipped: photographs that cannot be read, and why.
    """

    files: tuple[Path, ...]
    n_images: int
    n_too_small: int
    n_without_faces: int
    skipped: Mapping[str, str]


def crop_faces(
    path: str | Path,
    out: str | Path,
    *,
    size: int = 64,
    smallest: int = 64,
    margin: float = 0.2,
    show_progress: bool | None = None,
) -> CroppedFaces:
    """Writes each face of the photographs below `path` as a PNG of its own in `out`.

    Radford et al. (2015), section 4.2: OpenCV's face detector on scraped photographs, keeping the
    detections of sufficient resolution.

    Args:
        path: a folder; folders inside it count too.
        out: where the faces go, named after their photographs, a number behind.
        size: width and height of what is written, in pixels.
        smallest: the least side of a detected box, in pixels of the photograph, at least 24.
        margin: what is added around the box on each side, as a fraction of its side.
        show_progress: whether to show a progress bar on stderr; None: where that is a terminal.

    Raises:
        DissectError: OpenCV is not installed, no readable image, a value out of its range, or the
            folder cannot be written.
    """
    from PIL import Image

    if size < 1 or smallest < _LEAST or not 0 <= margin <= 2:
        raise DissectError(
            f"faces need size of at least 1, smallest of at least {_LEAST} and margin in 0 to 2; "
            f"got {size}, {smallest} and {margin}"
        )
    detector = _detector()
    opened = FolderSource(path, size=8, show_progress=show_progress)
    root, target = user_path(path), Path(out)
    skipped = dict(opened.skipped)
    written: list[Path] = []
    small = without = 0
    with progress_bar("looking for faces", len(opened.files), show_progress) as advance:
        for name in opened.files:
            try:
                photograph = whole_image(root / name)
            except UnreadableImageError as error:
                skipped[name] = str(error)
                continue
            boxes = _detected(detector, photograph)
            kept = [box for box in boxes if box[2] >= smallest]
            small += len(boxes) - len(kept)
            without += not boxes
            for number, box in enumerate(kept):
                cut = Image.fromarray(_cut(photograph, box, margin))
                face = cut.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)
                target_file = target / f"{Path(name).with_suffix('')}-{number}.png"
                written.append(write_image(target_file, face))
            advance(1)
    return CroppedFaces(tuple(written), len(opened.files), small, without, skipped)


def face_boxes(image: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    """Left, top and side of every face in `image` (H, W, 3), in pixels, from the left.

    Raises:
        DissectError: OpenCV is not installed.
    """
    return _detected(_detector(), image)


def _detector() -> Any:
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as error:
        raise DissectError(
            'cropping faces needs the package OpenCV: pip install "dissect-gan[faces]"'
        ) from error
    if not hasattr(cv2, "CascadeClassifier"):
        raise DissectError(
            f"OpenCV {cv2.__version__} has no cascade classifier; install one of version 4: "
            'pip install "dissect-gan[faces]"'
        )
    return cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / _CASCADE))


def _detected(detector: Any, image: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    # The weights of red, green and blue that OpenCV's own conversion has.
    grey = np.rint(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    if min(grey.shape) < _LEAST:
        return []
    # The cascade wants something around a face: one that fills its picture is not seen without.
    border = round(0.2 * min(grey.shape))
    grey = np.ascontiguousarray(np.pad(grey, border, mode="edge"))
    detected = detector.detectMultiScale(
        grey, scaleFactor=1.1, minNeighbors=5, minSize=(_LEAST, _LEAST)
    )
    return sorted((int(x) - border, int(y) - border, int(side)) for x, y, side, _ in detected)


def _cut(image: NDArray[np.uint8], box: tuple[int, int, int], margin: float) -> NDArray[np.uint8]:
    """The square around a box, with its margin as far as the image allows."""
    height, width, _ = image.shape
    x, y, side = box
    wide = min(round(side * (1 + 2 * margin)), height, width)
    left = min(max(x + side // 2 - wide // 2, 0), width - wide)
    top = min(max(y + side // 2 - wide // 2, 0), height - wide)
    return image[top : top + wide, left : left + wide]
