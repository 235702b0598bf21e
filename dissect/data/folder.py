"""A folder of image files as a source."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version as installed_version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.io import read_json, user_path, write_json
from dissect._utils.progress import progress_bar
from dissect.data.cache import cache_folder, files_state
from dissect.data.decode import UnreadableImageError, in_threads, square_image, stacked
from dissect.data.protocol import Indices, checked_count, checked_indices

__all__ = ["FolderSource"]

_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
)
_CHECKED_AT_ONCE = 64


class FolderSource:
    """The images below a folder, by the order of their names, decoded when they are asked for.

    Each is resized so that its shorter side fits and cropped to its centre (`square_image`). Files
    that cannot be decoded are left out and named in `skipped`. To find them, opening the folder
    for the first time decodes every file once; the outcome is kept in the cache folder until a
    file changes.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: int = 64,
        count: int | None = None,
        show_progress: bool | None = None,
    ) -> None:
        """List and check the files.

        Args:
            path: the folder; folders inside it count too, hidden ones do not.
            size: width and height of every image, in pixels.
            count: use the first so many; None: all.
            show_progress: whether to show a progress bar on stderr; None: where that is a terminal.

        Raises:
            DissectError: no such folder, no readable image in it, or fewer than `count`.
        """
        self.name = f"folder:{path}"
        self.size = size
        self._root = user_path(path)
        names = _image_files(self._root)
        self.fingerprint = files_state(self._root, names, f"pillow {installed_version('pillow')}\n")
        self.skipped: Mapping[str, str] = _unreadable(
            self._root, names, self.fingerprint, show_progress
        )
        readable = [name for name in names if name not in self.skipped]
        if not readable:
            first = next(iter(self.skipped.items()), None)
            raise DissectError(
                f"none of the {len(names)} images in {path} can be read; {first[0]}: {first[1]}"
                if first
                else f"{path} holds no images (looked for {' '.join(sorted(_SUFFIXES))})"
            )
        self.files = tuple(readable[: checked_count(count, len(readable), self.name)])

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self)} images, {len(self.skipped)} skipped>"

    def images(self, indices: Indices) -> NDArray[np.uint8]:
        """The images at `indices`: uint8 (B, size, size, 3), RGB, 0 to 255.

        Raises:
            DissectError: an index is out of range, or a file has become unreadable.
        """
        return stacked(self._image, checked_indices(indices, len(self)).tolist(), self.size)

    def listing(self) -> Iterator[bytes]:
        """Name and size of every file, in their order."""
        for name in self.files:
            with suppress(OSError):
                size = (self._root / name).stat().st_size
                yield os.fsencode(name) + f"\0{size}\n".encode()

    def _image(self, index: int) -> NDArray[np.uint8]:
        path = self._root / self.files[index]
        try:
            return square_image(path, self.size)
        except UnreadableImageError as error:
            raise DissectError(f"cannot read {path} any more: {error}; open it again") from error


def _image_files(root: Path) -> list[str]:
    """Names of the image files below `root`, relative to it, with forward slashes, sorted."""
    if not root.is_dir():
        is_file = root.is_file()
        raise DissectError(f"{root} is a file; give its folder" if is_file else f"no folder {root}")

    def refuse(error: OSError) -> None:
        raise DissectError(f"cannot list {error.filename}: {error.strerror}") from error

    names: list[str] = []
    for folder, inside, files in os.walk(root, onerror=refuse):
        inside[:] = [name for name in inside if not name.startswith(".")]
        names.extend(
            Path(folder, name).relative_to(root).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES
        )
    return sorted(names)


def _unreadable(
    root: Path, names: list[str], state: str, show_progress: bool | None
) -> dict[str, str]:
    """Name and reason of each file that cannot be decoded."""
    key = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    with suppress(DissectError):
        known = read_json(cache_folder() / "folders" / f"{key}.json")
        if isinstance(known, dict) and known.get("state") == state:
            return dict(known["skipped"])
    skipped = {}
    with progress_bar(f"checking {root.name}", len(names), show_progress) as advance:
        for start in range(0, len(names), _CHECKED_AT_ONCE):
            part = names[start : start + _CHECKED_AT_ONCE]
            reasons = in_threads(lambda name: _why_unreadable(root / name), part)
            skipped.update({name: why for name, why in zip(part, reasons, strict=True) if why})
            advance(len(part))
    # Without a cache folder the check is made again next time, and nothing else is lost.
    with suppress(DissectError):
        write_json(cache_folder() / "folders" / f"{key}.json", {"state": state, "skipped": skipped})
    return skipped


def _why_unreadable(path: Path) -> str | None:
    try:
        # Every byte is decoded whatever the size, and a small one is quick to make.
        square_image(path, 8)
    except UnreadableImageError as error:
        return str(error)
    return None
