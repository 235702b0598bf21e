"""What the page saves: edits, pictures and edited generators, never over an existing file."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.io import write_bytes
from dissect.models import Generator, generate, load, save_checkpoint
from dissect.studio.sessions.generator import Pixels, png
from dissect.surgery import Intervention

__all__ = ["SavedGenerator", "Saver"]

_SCALE = 4


@dataclass(frozen=True)
class SavedGenerator:
    """An edited generator in a file.

    Attributes:
        path: the checkpoint.
        how: the edit is in the `weights`, or a `module` of its own at the end of the layer.
        difference: the largest one between the images of the file, read back, and those of the
            edit, on the [-1, 1] scale.
    """

    path: Path
    how: Literal["weights", "module"]
    difference: float


class Saver:
    """Writes files to one folder, each under the first number that is free."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def edit(self, edit: Intervention) -> Path:
        """The path of a file that now holds the edit.

        Raises:
            DissectError: nothing is edited.
        """
        _check_edit(edit)
        return self._write("edit", "json", lambda path: edit.save(path, force=False))

    def picture(self, pictures: Sequence[Pixels]) -> Path:
        """The path of a file that now holds the pictures side by side, enlarged."""
        joined = np.concatenate(list(pictures), axis=1)
        enlarged = joined.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
        return self._write(
            "picture", "png", lambda path: write_bytes(path, png(enlarged), force=False)
        )

    def generator(self, model: nn.Module, edit: Intervention, z: Tensor) -> SavedGenerator:
        """The generator with an edit, in a file that was read back; the caller holds the lock.

        Args:
            model: before the edit.
            edit: what is done to it.
            z: latents to compare images on.

        Raises:
            DissectError: nothing is edited, or a generator of another kind.
        """
        if not isinstance(model, Generator):
            raise DissectError("only generators of dissect can be saved; use bake() from Python")
        _check_edit(edit)
        baked = edit.bake(model)
        card = {"edit": edit.to_dict()}
        path = self._write(
            "edited",
            "safetensors",
            lambda path: save_checkpoint(path, baked, card=card, force=False),
        )
        saved = generate(load(str(path), device=z.device), z)
        difference = float((saved - generate(model, z, edit=edit)).abs().max())
        same = model.state_dict().keys() == baked.state_dict().keys()
        return SavedGenerator(path, "weights" if same else "module", difference)

    def _write(self, stem: str, suffix: str, write: Callable[[Path], Path]) -> Path:
        with self._lock:
            paths = (self._folder / f"{stem}-{number}.{suffix}" for number in count(1))
            return write(next(path for path in paths if not path.exists()))


def _check_edit(edit: Intervention) -> None:
    if not any(len(part.units) for part in edit.parts):
        raise DissectError("nothing is edited yet: tick units, and brush where they are to go")
