"""The boxes of one concept in a COCO file; a change is on the disk before it is answered."""

import glob
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dissect._utils.errors import DissectError
from dissect._utils.io import read_json, remove_unfinished
from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.studio.sessions.pictures import Pictures, identity

__all__ = ["BoxFile", "ConflictError", "ImageAnnotation"]

_MOST_BOXES = 200
# Seconds after which nobody is still writing a file.
_ABANDONED = 60


@dataclass(frozen=True)
class ImageAnnotation:
    """The boxes on one image.

    Attributes:
        boxes: none is "looked at, and nothing there"; None is "not looked at yet".
    """

    boxes: tuple[Box, ...] | None

    @property
    def version(self) -> str:
        """What changes when the boxes do; a change must name the version that it is made to."""
        if self.boxes is None:
            return "unseen"
        return hashlib.sha256(json.dumps(self.to_list()).encode()).hexdigest()[:16]

    def to_list(self) -> list[list[float]] | None:
        """The boxes as lists of left, top, width, height."""
        if self.boxes is None:
            return None
        return [[box.x, box.y, box.width, box.height] for box in self.boxes]

    def to_dict(self) -> dict[str, Any]:
        """The boxes and their version, as the page takes them."""
        return {"boxes": self.to_list(), "version": self.version}


class ConflictError(DissectError):
    """The boxes were changed by somebody else since they were looked at.

    Attributes:
        current: what they are now.
    """

    def __init__(self, message: str, current: ImageAnnotation) -> None:
        super().__init__(message)
        self.current = current


class BoxFile:
    """A COCO file of one concept; the images in it are those that somebody looked at.

    Images of the file that are not among `pictures` are kept as they are. Where something else
    writes to the file, it is read again before the next change.

    Raises:
        DissectError: the file cannot be read, is of another model or of images of another size,
            or holds more than boxes of the concept, which writing it would lose.
    """

    def __init__(
        self, path: Path, concept: str, pictures: Pictures, info: dict[str, Any] | None = None
    ) -> None:
        self.path = path
        self.concept = concept
        self._pictures = pictures
        self._positions = {pictures.key(position): position for position in range(len(pictures))}
        self._new_info = info or {}
        self._lock = threading.Lock()
        remove_unfinished(path.parent, glob.escape(path.name), older_than=_ABANDONED)
        with self._lock:
            self._read()

    def images(self) -> list[ImageAnnotation]:
        """The boxes on every picture, in the order of the pictures."""
        with self._lock:
            self._read_if_changed()
            return [self._at(position) for position in range(len(self._pictures))]

    def annotations(self) -> Annotations:
        """Everything in the file."""
        with self._lock:
            self._read_if_changed()
            return self._annotations

    def change(self, position: int, boxes: Sequence[Box] | None, version: str) -> ImageAnnotation:
        """The boxes on one picture, now these and on the disk; None takes it out of the file.

        Raises:
            ConflictError: they are no longer of that version; nothing is changed.
            DissectError: a box outside the image, too many of them, or a file that cannot be
                written; nothing is changed.
        """
        if boxes is not None and len(boxes) > _MOST_BOXES:
            raise DissectError(f"an image holds at most {_MOST_BOXES} boxes, not {len(boxes)}")
        with self._lock:
            self._read_if_changed()
            before = self._at(position)
            if before.version != version:
                raise ConflictError(
                    f"the {self.concept} boxes of {self._pictures.name(position)} were changed in "
                    "another tab or program, and your change was not saved: here is what they are "
                    "now",
                    before,
                )
            images = [
                image
                for image in self._annotations.images
                if identity(image) != self._pictures.key(position)
            ]
            if boxes is not None:
                known = self._by_position.get(position) or self._pictures.blank(position)
                images.append(replace(known, boxes=tuple(boxes)))
            images.sort(key=self._order)
            annotations = replace(self._annotations, images=tuple(images))
            annotations.save(self.path)
            self._take(annotations)
            return self._at(position)

    def _order(self, image: AnnotatedImage) -> int:
        return self._positions.get(identity(image), len(self._positions))

    def _at(self, position: int) -> ImageAnnotation:
        image = self._by_position.get(position)
        return ImageAnnotation(None if image is None else image.boxes)

    def _read_if_changed(self) -> None:
        if _stamp(self.path) != self._stamp:
            self._read()

    def _read(self) -> None:
        if not self.path.exists():
            info = {"pass": "first", **self._new_info}
            self._take(Annotations(self.concept, (), self._pictures.model, info))
            return
        _refuse_to_lose(self.path, self.concept)
        annotations = Annotations.load(self.path, self.concept, allow_empty=True)
        if self._pictures.model is not None:
            annotations.check_model(self._pictures.model)
        height, width = self._pictures.size
        for image in annotations.images:
            if identity(image) in self._positions and (image.height, image.width) != (
                height,
                width,
            ):
                raise DissectError(
                    f"{self.path} has {image.name!r} at {image.width} x {image.height} pixels, and "
                    f"here it is {width} x {height}: give the --size that the boxes were drawn at"
                )
        self._take(annotations)

    def _take(self, annotations: Annotations) -> None:
        self._stamp = _stamp(self.path)
        self._annotations = annotations
        self._by_position = {
            self._positions[identity(image)]: image
            for image in annotations.images
            if identity(image) in self._positions
        }


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _refuse_to_lose(path: Path, concept: str) -> None:
    """An error, where the file holds what a file of boxes of one concept cannot."""
    coco = read_json(path)
    if not isinstance(coco, dict):
        return  # reading it as COCO says what is wrong
    categories, annotations = coco.get("categories"), coco.get("annotations")
    names = [one.get("name") for one in _objects(categories)]
    if names and names != [concept]:
        listed = ", ".join(map(repr, names[:8]))
        raise DissectError(
            f"{path} is about {listed}; boxes are drawn in a file for each concept, and saving "
            f"{concept!r} there would lose the rest: give another --out"
        )
    if any(one.get("segmentation") or one.get("iscrowd") for one in _objects(annotations)):
        raise DissectError(
            f"{path} holds polygons or masks, which saving boxes would lose: give another --out"
        )


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
