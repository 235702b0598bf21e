"""CIFAR-10 (Krizhevsky 2009): the official python batches, or a folder of JPEG files a class.

Either as files below a folder or in a tar archive (plain, gz, bz2, xz), which is read and never
unpacked.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.io import user_path
from dissect._utils.progress import progress_bar
from dissect.data.batchfile import read_batch, read_names
from dissect.data.cache import files_state
from dissect.data.decode import UnreadableImageError, in_threads, whole_image
from dissect.data.labelled import SIDE, LabelledSource, Split, cached

__all__ = ["CLASSES", "cifar10"]

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_BATCHES = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}
_META = "batches.meta"
_SPLITS = ("train", "test")
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
# Of an official batch it is 31 MB; a file far beyond belongs to something else.
_LARGEST = 100 * 2**20
_LAYOUTS = (
    f"cifar10: needs {', '.join(_BATCHES['train'])}, test_batch and {_META}, or "
    "train/CLASS/*.jpg and test/CLASS/*.jpg, in a folder or a tar archive"
)

_Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]


def cifar10(
    path: str, split: Split = "train", *, show_progress: bool | None = None
) -> LabelledSource:
    """The training or the test images of the CIFAR-10 at `path`.

    Images of JPEG folders are ordered by the name of the file, then by class, so that the first
    so many hold every class alike.

    Args:
        path: a folder with the official python batches or with `train/CLASS/*.jpg` and
            `test/CLASS/*.jpg`; one that holds such a folder; or a tar archive of one.
        split: "train" or "test".
        show_progress: whether to show a progress bar on stderr; None: where that is a terminal.

    Raises:
        DissectError: another layout, classes other than CIFAR-10's, a file that is damaged, cut
            short or of another size.
    """
    root = user_path(path)
    if not root.exists():
        raise DissectError(f"no CIFAR-10 at {path}; {_LAYOUTS}")
    state, members = _listing(root)
    return cached(
        f"cifar10:{path}", split, state, CLASSES, lambda: _read(root, members, split, show_progress)
    )


def _listing(root: Path) -> tuple[str, dict[str, Path] | None]:
    """What tells a changed set, and the files below a folder by name; None of an archive."""
    if root.is_file():
        return files_state(root.parent, [root.name]), None
    files = sorted(path for path in root.rglob("*") if path.is_file())
    members = {file.relative_to(root).as_posix(): file for file in files}
    return files_state(root, members), members


def _read(
    root: Path, members: dict[str, Path] | None, split: Split, show_progress: bool | None
) -> _Labelled:
    contents = _in_archive(root) if members is None else _in_folder(members)
    batches: dict[str, bytes] = {}
    pictures: dict[tuple[str, str, str], bytes] = {}
    for name, content in contents:
        parts = PurePosixPath(name).parts
        if parts[-1] in (*_BATCHES["train"], *_BATCHES["test"], _META):
            batches[parts[-1]] = content
        elif len(parts) >= 3 and parts[-3] in _SPLITS:
            pictures[parts[-3], parts[-1], parts[-2]] = content
    if batches:
        return _from_batches(root, batches, split)
    if pictures:
        return _from_pictures(root, pictures, split, show_progress)
    raise DissectError(f"{root} has another layout; {_LAYOUTS}")


def _wanted(name: str) -> bool:
    path = PurePosixPath(name)
    known = (*_BATCHES["train"], *_BATCHES["test"], _META)
    return path.suffix.lower() in _SUFFIXES or path.name in known


def _in_folder(members: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    for name, file in members.items():
        if _wanted(name):
            try:
                if file.stat().st_size > _LARGEST:
                    raise DissectError(f"{file} is too large to be part of CIFAR-10")
                yield name, file.read_bytes()
            except OSError as error:
                raise DissectError(f"cannot read {file}: {error.strerror or error}") from error


def _in_archive(archive: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(archive, "r|*") as opened:
            for member in opened:
                if not member.isfile() or not _wanted(member.name):
                    continue
                if member.size > _LARGEST:
                    raise DissectError(f"{member.name} in {archive} is too large for CIFAR-10")
                content = opened.extractfile(member)
                if content is not None:  # it is, for a file
                    yield member.name, content.read()
    except DissectError:
        raise
    # Each compression has errors of its own, and a stream cut short may raise EOFError.
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise DissectError(
            f"{archive} is cut short or no tar archive ({why}); {_LAYOUTS}"
        ) from error


def _from_batches(root: Path, batches: dict[str, bytes], split: Split) -> _Labelled:
    needed = (*_BATCHES["train"], *_BATCHES["test"], _META)
    if missing := [name for name in needed if name not in batches]:
        raise DissectError(f"{root} lacks {', '.join(missing)}; {_LAYOUTS}")
    _check_classes(f"{root}: {_META}", tuple(read_names(batches[_META], _META)))
    parts = [read_batch(batches[name], f"{root}/{name}", len(CLASSES)) for name in _BATCHES[split]]
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _from_pictures(
    root: Path,
    pictures: dict[tuple[str, str, str], bytes],
    split: Split,
    show_progress: bool | None,
) -> _Labelled:
    for part in _SPLITS:
        names = tuple(sorted({folder for kind, _, folder in pictures if kind == part}))
        if not names:
            raise DissectError(f"{root} has no images below {part}/; {_LAYOUTS}")
        _check_classes(f"{root}: the folders of {part}/", names)
    keys = sorted(key for key in pictures if key[0] == split)
    images = np.empty((len(keys), SIDE, SIDE, 3), np.uint8)
    with progress_bar(f"decoding {split}", len(keys), show_progress) as advance:
        for start in range(0, len(keys), 1_000):
            part_keys = keys[start : start + 1_000]
            decoded = in_threads(lambda key: _decoded(root, key, pictures[key]), part_keys)
            images[start : start + len(part_keys)] = decoded
            advance(len(part_keys))
    labels = np.array([CLASSES.index(folder) for _, _, folder in keys], np.int64)
    return images, labels


def _decoded(root: Path, key: tuple[str, str, str], content: bytes) -> NDArray[np.uint8]:
    split, file, folder = key
    name = f"{split}/{folder}/{file} of {root}"
    try:
        image = whole_image(content)
    except UnreadableImageError as error:
        raise DissectError(f"cannot read {name}: {error}") from error
    if image.shape != (SIDE, SIDE, 3):
        height, width, _ = image.shape
        raise DissectError(
            f"{name} is {width} x {height} pixels; CIFAR-10 has {SIDE} x {SIDE} (for other images "
            "use folder:PATH)"
        )
    return image


def _check_classes(where: str, names: tuple[str, ...]) -> None:
    if names != CLASSES:
        differing = sorted(set(names) ^ set(CLASSES)) or ["their order"]
        raise DissectError(
            f"{where} name other classes than CIFAR-10's: {', '.join(differing[:6])} differ; "
            f"they must be {', '.join(CLASSES)}"
        )
