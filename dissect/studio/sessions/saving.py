"""What the page saves: units, pictures and edited generators, and never over a file."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.io import write_bytes
from dissect.models import Generator, generate, load, save_checkpoint
from dissect.studio.sessions.edits import Step
from dissect.studio.sessions.generator import Pixels, png
from dissect.surgery import ablated, bake
from dissect.units import Units

__all__ = ["SavedGenerator", "Saver"]

_SCALE = 4


@dataclass(frozen=True)
class SavedGenerator:
    """An edited generator in a file.

    Attributes:
        path: the checkpoint.
        how: the edit is in the `weights`, or a `module` of its own at the end of the layer.
        difference: the largest one between what the file, read back, draws and what the edit
            draws, on the [-1, 1] scale.
    """

    path: Path
    how: Literal["weights", "module"]
    difference: float


class Saver:
    """Files of one folder, each under the first number that is free."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def units(self, units: Units) -> Path:
        """The file that now holds the units."""
        with self._free("units", "json") as path:
            return units.save(path)

    def picture(self, pictures: Sequence[Pixels]) -> Path:
        """The file that now holds the pictures side by side, enlarged."""
        joined = np.concatenate(list(pictures), axis=1)
        enlarged = joined.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
        with self._free("picture", "png") as path:
            return write_bytes(path, png(enlarged), force=False)

    def generator(
        self,
        model: nn.Module,
        steps: Sequence[Step],
        card: Mapping[str, Any],
        z: Tensor,
    ) -> SavedGenerator:
        """The generator with an edit, in a file that was read back; whoever calls holds the lock.

        Args:
            model: before the edit.
            steps: of the edit, one after the other.
            card: what the checkpoint says of itself.
            z: latents to compare images on.

        Raises:
            DissectError: nothing is edited, or a generator of another kind.
        """
        if not isinstance(model, Generator):
            raise DissectError("only generators of dissect can be saved; use bake() from Python")
        if not any(len(units) for units, _ in steps):
            raise DissectError("nothing is edited yet: tick units, and brush where they are to go")
        edited = model
        for units, arguments in steps:
            edited = bake(edited, units, **arguments)
        with ExitStack() as edits:
            for units, arguments in steps:
                edits.enter_context(ablated(model, units, **arguments))
            wanted = generate(model, z)
        with self._free("edited", "safetensors") as path:
            save_checkpoint(path, edited, card=card, force=False)
        written = load(str(path), device=z.device)
        difference = float((generate(written, z) - wanted).abs().max())
        same = model.state_dict().keys() == edited.state_dict().keys()
        return SavedGenerator(path, "weights" if same else "module", difference)

    @contextmanager
    def _free(self, stem: str, suffix: str) -> Iterator[Path]:
        """A path in the folder that nothing is at; one is given at a time."""
        with self._lock:
            paths = (self._folder / f"{stem}-{number}.{suffix}" for number in count(1))
            yield next(path for path in paths if not path.exists())
