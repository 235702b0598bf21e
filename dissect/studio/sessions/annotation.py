"""A session of drawing boxes: pictures, concepts, passes, and a file for each of them."""

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from dissect._utils.errors import DissectError
from dissect._utils.io import read_json
from dissect._utils.text import near_names
from dissect.annotations import Agreement, Annotations, pair_iou
from dissect.studio.sessions.box_file import BoxFile
from dissect.studio.sessions.pictures import Pictures, identity

__all__ = [
    "PASSES",
    "AnnotationSession",
    "check_concept",
    "concepts_in",
    "samples_to_annotate",
]

PASSES = ("first", "second")
_MOST_SAMPLES = 10_000
_SAMPLES = 150
_CONCEPT = re.compile(r"\w[\w -]{0,59}")


class AnnotationSession:
    """Boxes of several concepts on the same pictures, in `folder/CONCEPT.json`.

    A second pass over the same pictures goes to `folder/passes/CONCEPT-second.json`, apart from
    the concepts, so that nobody takes it for one.

    Args:
        folder: where the files are, or will be.
        pictures: what is drawn on.
        concepts: what is drawn around; at least one.
        grids: (name, rows, columns) of the layers whose cells can be shown over a picture.

    Raises:
        DissectError: no concept, one that cannot name a file, or a file that cannot be continued.
    """

    def __init__(
        self,
        folder: Path,
        pictures: Pictures,
        concepts: Sequence[str],
        grids: Sequence[tuple[str, int, int]] = (),
    ) -> None:
        if not concepts:
            raise DissectError("say what to draw boxes around, as in --concept window")
        self.folder = folder
        self.pictures = pictures
        self.concepts = tuple(dict.fromkeys(check_concept(concept) for concept in concepts))
        self.grids = tuple(grids)
        self._lock = threading.Lock()
        self._files = {
            (concept, "first"): self._open(concept, "first") for concept in self.concepts
        }

    def file(self, concept: str, which: str = "first") -> BoxFile:
        """The file of one concept in one pass.

        Raises:
            DissectError: no such concept or pass here.
        """
        if concept not in self.concepts:
            raise DissectError(
                f"no concept {concept!r} here; there are: {near_names(concept, self.concepts)}"
            )
        if which not in PASSES:
            raise DissectError(f"a pass is 'first' or 'second', not {which!r}")
        with self._lock:
            if (concept, which) not in self._files:
                self._files[concept, which] = self._open(concept, which)
            return self._files[concept, which]

    def agreement(self, concept: str) -> tuple[int, Agreement]:
        """On how many pictures both passes were made, and how they agree there.

        Raises:
            DissectError: no such concept, or a file that cannot be read.
        """
        passes = [self.file(concept, which).annotations() for which in PASSES]
        both = set.intersection(*({identity(image) for image in one.images} for one in passes))
        first, second = (_only(one, both) for one in passes)
        return len(both), pair_iou(first, second)

    def n_boxes(self) -> dict[str, int]:
        """How many boxes there are of each concept."""
        return {name: self.file(name).annotations().n_boxes for name in self.concepts}

    def _open(self, concept: str, which: str) -> BoxFile:
        name = f"{concept}.json" if which == "first" else f"passes/{concept}-{which}.json"
        info: dict[str, Any] = {
            "description": f"{concept} boxes on {self.pictures.title}",
            "how": "drawn in the page of dissect annotate",
            "pass": which,
            **self.pictures.about,
        }
        return BoxFile(self.folder / name, concept, self.pictures, info)


def check_concept(concept: str) -> str:
    """`concept`, where it can be the name of a file.

    Raises:
        DissectError: it cannot.
    """
    if not _CONCEPT.fullmatch(concept):
        raise DissectError(
            f"the concept {concept!r} cannot name a file: use letters, digits, spaces and hyphens, "
            "at most 60"
        )
    return concept


def concepts_in(folder: Path) -> list[str]:
    """The concepts that the folder has a COCO file of; other JSON files are passed over."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with suppress(DissectError):
            coco = read_json(path)
            if _CONCEPT.fullmatch(path.stem) and isinstance(coco, dict) and "categories" in coco:
                found.append(path.stem)
    return found


def samples_to_annotate(
    folder: Path,
    concepts: Sequence[str],
    n: int | None,
    start: int | None,
    seed: int | None,
) -> list[tuple[int, int]]:
    """The latents to draw on, (seed, index): those asked for, or else those of the files.

    Where nothing is asked for, the files of the concepts say what they were begun on, down to the
    samples that nobody looked at yet. Otherwise it is 150 samples from the start of seed 0.

    Raises:
        DissectError: a file that cannot be read, or that is not about samples.
    """
    rows: dict[tuple[int, int], None] = {}
    if (n, start, seed) == (None, None, None):
        for name in concepts:
            path = folder / f"{name}.json"
            if path.exists():
                drawn = Annotations.load(path, name, allow_empty=True)
                rows.update(dict.fromkeys([*_begun(drawn.info), *drawn.latent_rows]))
    first = start or 0
    return list(rows) or [(seed or 0, index) for index in range(first, first + (n or _SAMPLES))]


def _begun(info: Mapping[str, Any]) -> list[tuple[int, int]]:
    """The latents of a session as its file records them (see `SamplePictures.about`)."""
    rows: list[tuple[int, int]] = []
    runs = info.get("samples")
    for run in runs if isinstance(runs, list) else []:
        if not isinstance(run, list) or len(run) != 3 or any(type(one) is not int for one in run):
            return []
        seed, first, length = run
        if min(run) < 0 or len(rows) + length > _MOST_SAMPLES:
            return []
        rows += [(seed, index) for index in range(first, first + length)]
    return rows


def _only(annotations: Annotations, identities: set[object]) -> Annotations:
    kept = tuple(image for image in annotations.images if identity(image) in identities)
    return replace(annotations, images=kept)
