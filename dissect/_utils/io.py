"""Files written whole or not at all."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dissect._utils.errors import DissectError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["atomic_write", "read_json", "save_image", "write_bytes", "write_json"]


@contextmanager
def atomic_write(path: str | Path, *, force: bool = True) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` only when it is complete.

    The bytes go to a file beside `path`, are synchronised to the disk and renamed over it, so that
    a killed process leaves the old file or the new one. Missing folders are made.

    Raises:
        DissectError: the folder cannot be written, the disk is full, or `path` exists and `force`
            is off.
    """
    target = Path(path)
    if not force and target.exists():
        raise DissectError(f"{target} exists already; give another name, or --force to replace it")
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
        temporary = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DissectError(f"cannot write {target}: {reason}; nothing was changed") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_bytes(path: str | Path, data: bytes, *, force: bool = True) -> Path:
    """`path`, now holding `data` (see `atomic_write`)."""
    with atomic_write(path, force=force) as stream:
        stream.write(data)
    return Path(path)


def write_json(path: str | Path, value: Any, *, force: bool = True) -> Path:
    """`path`, now holding `value` as indented JSON (NaN and infinities are refused)."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    return write_bytes(path, text.encode(), force=force)


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


def save_image(path: str | Path, image: "Image.Image", *, force: bool = True) -> Path:
    """`path`, now holding `image` as a PNG."""
    with atomic_write(path, force=force) as stream:
        image.save(stream, format="PNG", optimize=True)
    return Path(path)
