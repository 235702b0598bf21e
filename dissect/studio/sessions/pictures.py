"""What boxes are drawn on: samples of a generator, or the images of a folder."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dissect._utils.errors import DissectError
from dissect.annotations import AnnotatedImage, pixels_digest
from dissect.data import FolderSource
from dissect.studio.sessions.generator import GeneratorSession, Pixels

__all__ = ["FolderPictures", "Pictures", "SamplePictures", "identity"]


class Pictures(Protocol):
    """Images of one size, by position."""

    title: str
    model: str | None
    # What a new file records of the whole set, so that it can be opened again.
    about: Mapping[str, Any]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""

    def __len__(self) -> int:
        """How many."""

    def name(self, position: int) -> str:
        """What to call an image."""

    def key(self, position: int) -> object:
        """What tells an image from every other one in a file: see `identity`."""

    def pixels(self, position: int) -> Pixels:
        """The image, (H, W, 3) uint8."""

    def blank(self, position: int) -> AnnotatedImage:
        """The image as a file records it, without boxes."""


class SamplePictures:
    """Samples of a generator, each by the seed and the index of its latent."""

    def __init__(self, generator: GeneratorSession, rows: Sequence[tuple[int, int]]) -> None:
        if not rows:
            raise DissectError("there is no sample to draw on: give at least one")
        self.title = f"samples of {generator.name}"
        self.model: str | None = generator.fingerprint
        self._generator = generator
        self._rows = tuple(rows)
        self.about: Mapping[str, Any] = {"samples": _runs(self._rows)}
        height, width = generator.image(*self._rows[0]).shape[:2]
        self.size = (height, width)

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, position: int) -> str:
        """Its seed and index."""
        seed, index = self._rows[position]
        return f"seed {seed}, index {index}"

    def key(self, position: int) -> object:
        """Its seed and index."""
        return self._rows[position]

    def pixels(self, position: int) -> Pixels:
        """The sample, (H, W, 3) uint8."""
        return self._generator.image(*self._rows[position])

    def blank(self, position: int) -> AnnotatedImage:
        """With the latent, so that the generator can draw it again."""
        height, width = self.size
        seed, index = self._rows[position]
        digest = pixels_digest(self.pixels(position))
        return AnnotatedImage(width, height, seed=seed, index=index, sha256=digest)


class FolderPictures:
    """The images of a folder, squared as the source `folder:` does."""

    def __init__(self, source: FolderSource) -> None:
        self.title = source.name
        self.model: str | None = None
        self.about: Mapping[str, Any] = {"images": f"{source.name} squared to {source.size}"}
        self.size = (source.size, source.size)
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def name(self, position: int) -> str:
        """The file's name in the folder."""
        return self._source.files[position]

    def key(self, position: int) -> object:
        """The same."""
        return self._source.files[position]

    def pixels(self, position: int) -> Pixels:
        """The image, (H, W, 3) uint8."""
        squared: Pixels = self._source.images([position])[0]
        return squared

    def blank(self, position: int) -> AnnotatedImage:
        """With the file's name, and a digest of the squared pixels."""
        side = self._source.size
        digest = pixels_digest(self.pixels(position))
        return AnnotatedImage(side, side, file_name=self.name(position), sha256=digest)


def identity(image: AnnotatedImage) -> object:
    """What tells an image of a file from every other one: its latent, or else its name."""
    return image.file_name if image.seed is None else (image.seed, image.index)


def _runs(rows: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Latents as runs of (seed, first index, how many), which is short where they follow."""
    runs: list[list[int]] = []
    for seed, index in rows:
        if runs and (seed, index) == (runs[-1][0], runs[-1][1] + runs[-1][2]):
            runs[-1][2] += 1
        else:
            runs.append([seed, index, 1])
    return runs
