"""Files: each written whole or not at all, here and nowhere else; JSON and safetensors read."""

import errno
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dissect._utils.errors import DamagedFileError, DissectError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = [
    "atomic_write",
    "check_writable",
    "halved",
    "lock_folder",
    "make_folder",
    "own_folder",
    "read_json",
    "read_metadata",
    "read_tensors",
    "remove_files",
    "remove_unfinished",
    "user_path",
    "write_animation",
    "write_bytes",
    "write_image",
    "write_json",
    "write_tensors",
]


@contextmanager
def atomic_write(path: str | Path, *, force: bool = True) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends without an error.

    The bytes go to a file beside `path`, are synchronised to the disk and renamed over it, so that
    a killed process leaves the old file or the new one. Missing folders are made.

    Raises:
        DissectError: the folder cannot be written, the disk is full, or `path` exists and `force`
            is off.
    """
    target = Path(path)
    if not target.name:
        raise DissectError(f"{str(path)!r} names no file to write")
    if not force and target.exists():
        raise DissectError(f"{target} exists already; give another name, or --force to replace it")
    unfinished: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        # Created with the permissions that the umask leaves; `tempfile` would keep others out.
        with beside.open("xb") as stream:
            unfinished = beside
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(target)
        unfinished = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DissectError(f"cannot write {target}: {reason}; nothing was changed") from error
    finally:
        if unfinished is not None:
            with suppress(OSError):
                unfinished.unlink()


def write_bytes(path: str | Path, data: bytes, *, force: bool = True) -> Path:
    """`path`, now holding `data` (see `atomic_write`)."""
    with atomic_write(path, force=force) as stream:
        stream.write(data)
    return Path(path)


def write_json(path: str | Path, value: Any, *, force: bool = True) -> Path:
    """`path`, now holding `value` as indented JSON (NaN and infinities are refused)."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    return write_bytes(path, text.encode(), force=force)


def write_image(path: str | Path, image: "Image.Image", *, force: bool = True) -> Path:
    """`path`, now holding `image` as a PNG."""
    with atomic_write(path, force=force) as stream:
        image.save(stream, format="PNG", optimize=True)
    return Path(path)


def write_animation(
    path: str | Path, frames: "Sequence[Image.Image]", *, milliseconds: int
) -> Path:
    """`path`, now holding `frames` as a GIF that repeats, each shown for `milliseconds`."""
    with atomic_write(path) as stream:
        frames[0].save(
            stream,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=milliseconds,
            loop=0,
        )
    return Path(path)


def write_tensors(
    path: str | Path,
    tensors: "Mapping[str, Tensor]",
    metadata: Mapping[str, str] | None = None,
    *,
    force: bool = True,
) -> Path:
    """`path`, now holding `tensors` and `metadata` as safetensors; `read_tensors` reads both.

    Raises:
        DissectError: the file cannot be written, or exists and `force` is off.
    """
    from safetensors.torch import save

    # Contiguous: the bytes do not depend on the memory format in use.
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return write_bytes(path, save(plain, dict(metadata or {})), force=force)


def halved(tensors: "Mapping[str, Tensor]", exact: Callable[[str], bool]) -> "dict[str, Tensor]":
    """Floating-point tensors as float16, but for those whose names are `exact`."""
    return {
        name: value.half() if value.is_floating_point() and not exact(name) else value
        for name, value in tensors.items()
    }


def read_tensors(path: str | Path) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """The tensors of a safetensors file, on the CPU, and its metadata.

    Raises:
        DissectError: the file is absent, unreadable, truncated, or not safetensors.
    """
    with _opened_tensors(path) as file:
        # Copies: the views that safetensors gives would change if the file were overwritten.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return tensors, dict(file.metadata() or {})


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file; its tensors are not read.

    Raises:
        DissectError: as `read_tensors`.
    """
    with _opened_tensors(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened_tensors(path: str | Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with Path(path).open("rb") as stream:  # its errors say what the system says
            stream.read(1)
        with safe_open(Path(path), framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise DissectError(f"no such file: {path}") from error
    except OSError as error:
        raise DissectError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, RuntimeError) as error:
        if _is_pytorch(Path(path)):
            raise DissectError(
                f"{path} is a file of torch.save, which is not opened, for it can run code. For a "
                "network of your own give a factory, file.py:function, that reads it with "
                "torch.load(..., weights_only=True); or write its tensors anew with "
                "safetensors.torch.save_file"
            ) from error
        raise DamagedFileError(f"{path} is damaged or not a safetensors file: {error}") from error


def _is_pytorch(path: Path) -> bool:
    """Whether a file begins as those of `torch.save` and `torch.jit.save`: a zip, or a pickle."""
    with path.open("rb") as stream:
        return re.match(rb"PK\x03\x04|\x80[\x02-\x05]", stream.read(4)) is not None


def read_json(path: str | Path) -> Any:
    """What the JSON file at `path` holds.

    Raises:
        DissectError: the file is absent, unreadable, or not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise DissectError(f"no such file: {path}") from error
    except OSError as error:
        raise DissectError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DissectError(f"{path} is not a JSON text file (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise DissectError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except RecursionError as error:
        raise DissectError(f"{path} is not valid JSON: nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise DissectError(f"{path} is not valid JSON: {error}") from error


def user_path(path: str | Path) -> Path:
    """`path` from the root, a `~` at its beginning replaced by the home folder.

    Raises:
        DissectError: nobody has the name after `~`, or this user has no home folder.
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise DissectError(f"{path}: there is no such home folder") from error


def make_folder(path: str | Path) -> Path:
    """`path`, now a folder, as are those above it.

    Raises:
        DissectError: it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DissectError(f"cannot make the folder {path}: {error.strerror or error}") from error
    return Path(path)


def remove_files(*paths: Path) -> None:
    """Remove the files at `paths`; one that is gone already, or cannot be removed, is left."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def remove_unfinished(folder: Path, *names: str, older_than: float = 0.0) -> None:
    """Remove what killed processes left of files that they were writing in `folder`.

    Args:
        folder: where the files were to be.
        names: what the files are called, with wildcards such as `step-*.safetensors`.
        older_than: seconds since the last change, below which a file may still be written.
    """
    for name in names:
        for path in folder.glob(f".{name}.*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Waits until no other process is in such a block for `folder`.

    The lock saves work, and nothing may depend on it: where none is to be had, nobody waits. A
    killed process gives its lock back.
    """
    from filelock import FileLock

    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError):
            stack.enter_context(FileLock(folder / ".lock"))
        yield


@contextmanager
def own_folder(folder: str | Path) -> Iterator[Callable[[], None]]:
    """In the block no other process can own `folder`, which is made if it is not there.

    It gives a function to be called before anything is deleted: it raises if the folder was
    removed meanwhile and is another process's now. A killed process gives its lock back, also to
    other machines. Where a file system has no locks, everyone owns every folder. Blocks of one
    thread may be nested.

    Raises:
        DissectError: another process owns it, or it cannot be made.
    """
    from filelock import FileLock, Timeout

    path = make_folder(folder) / ".lock"
    with ExitStack() as stack:

        def lock(*, nested: bool) -> tuple[int, int] | None:
            try:
                stack.enter_context(FileLock(path, timeout=0, is_singleton=nested))
                status = path.stat()
            except Timeout as error:
                raise DissectError(
                    f"another process is writing to {folder}: wait for its end, or give another "
                    "--out"
                ) from error
            except (OSError, NotImplementedError):
                return None
            return status.st_dev, status.st_ino

        held = lock(nested=True)

        def confirm() -> None:
            nonlocal held
            make_folder(folder)
            try:
                status = path.stat()
                same = (status.st_dev, status.st_ino) == held
            except OSError:
                same = False
            if held is not None and not same:
                held = lock(nested=False)

        yield confirm


def check_writable(folder: str | Path, n_bytes: int) -> None:
    """Find out whether a file of `n_bytes` can be written to `folder`; it is not left there.

    Raises:
        DissectError: it cannot: no permission, a full disk, a quota or a limit.
    """
    path = make_folder(folder) / f".space.{secrets.token_hex(4)}"
    try:
        with path.open("xb") as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, n_bytes)
    except OSError as error:
        # Some file systems cannot set space aside.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise DissectError(
                f"cannot write {n_bytes / 1e3:,.0f} kB to {folder}: {error.strerror or error}"
            ) from error
    finally:
        with suppress(OSError):
            path.unlink()
