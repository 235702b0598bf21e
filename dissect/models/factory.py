"""What a function in a Python file of the user's gives."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dissect._utils.errors import DissectError

__all__ = ["call_factory"]


def call_factory(file: Path, name: str) -> Any:
    """What the function `name` of a Python file returns; it may import what lies beside it.

    Raises:
        DissectError: no such file or function, or one that fails.
    """
    if not file.is_file():
        raise DissectError(f"no such file: {file} (a factory is given as file.py:function)")
    with _folder_importable(file.resolve().parent):
        factory = _imported(file, name)
        try:
            return factory()
        except DissectError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DissectError(f"{file}:{name}() failed: {reason}") from error


def _imported(file: Path, name: str) -> Callable[[], Any]:
    """The function `name` of a Python file."""
    path = str(file.resolve())
    digest = hashlib.sha256(path.encode()).hexdigest()[:16]
    # Files of one name lie in many folders.
    unique_name = f"_dissect_factory_{file.stem}_{digest}"
    module_spec = importlib.util.spec_from_file_location(unique_name, path)
    if module_spec is None or module_spec.loader is None:
        raise DissectError(f"{file} cannot be imported as Python")
    module = importlib.util.module_from_spec(module_spec)
    # Dataclasses and the like look their own module up by name while it is executed.
    sys.modules[unique_name] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[unique_name]
        raise DissectError(f"importing {file} failed: {type(error).__name__}: {error}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise DissectError(f"{file} has no function {name!r}; it has: {', '.join(known) or 'none'}")
    return factory  # type: ignore[no-any-return]


@contextmanager
def _folder_importable(folder: Path) -> Iterator[None]:
    """In the block, modules of `folder` can be imported; afterwards their names are free again.

    So a `networks.py` beside one factory is not taken for that beside another.
    """
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(str(folder))
        local = []
        for name in set(sys.modules) - before:
            package = name.partition(".")[0]
            beside = {str(folder / package), str(folder / f"{package}.py")}
            top = sys.modules.get(package)
            places = {getattr(top, "__file__", None), *getattr(top, "__path__", ())}
            # Not what was imported in part before, such as dissect itself.
            if package not in before and beside & places:
                local.append(name)
        for name in local:
            del sys.modules[name]
