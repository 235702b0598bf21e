"""COCO JSON: the boxes of one category, out of our own files and out of any annotation tool's."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dissect._utils.errors import DissectError
from dissect._utils.io import read_json, write_json
from dissect._utils.records import Record
from dissect._utils.schema import finite, near_names
from dissect.annotations.boxes import AnnotatedImage, Box

__all__ = ["Coco", "read_coco", "write_coco"]

_Id = int | str
_LATENT_IN_NAME = re.compile(r"(?:^|[/\\_-])seed(\d{1,18})-(\d{1,18})\.\w+$")


class Coco(NamedTuple):
    """What a COCO file says of one category."""

    concept: str
    images: tuple[AnnotatedImage, ...]
    model: str | None
    info: dict[str, Any]


def read_coco(path: str | Path, concept: str | None, *, allow_empty: bool) -> Coco:
    """The boxes of one category of the file at `path` (see `Annotations.load`).

    Raises:
        DissectError: one line with the file, the entry and what is wrong with it.
    """
    coco = Record.of(read_json(path), str(path))
    for key in ("images", "annotations", "categories"):
        if key not in coco.fields:
            raise DissectError(
                f"{path} has no {key!r}, so it is not COCO: export it from the annotation tool in "
                "the format called COCO"
            )
    images = _by_id(coco, "images")
    categories = {
        identity: entry.text("name") for identity, entry in _by_id(coco, "categories").items()
    }
    annotations = [
        _Annotation(entry, images, categories) for entry in _entries(coco, "annotations")
    ]
    drawn = [annotation for annotation in annotations if not annotation.crowd]
    chosen = concept or _only_concept(path, categories, drawn)
    if chosen not in categories.values():
        near = near_names(chosen, categories.values())
        raise DissectError(f"{path} has no category {chosen!r}; near names are {near}")
    of_concept = [one for one in drawn if categories[one.category] == chosen]
    if not of_concept and not allow_empty:
        crowds = sum(categories[one.category] == chosen for one in annotations)
        but = f" (only {crowds} crowd regions, which are skipped)" if crowds else ""
        raise DissectError(f"{path} has not one box of {chosen!r}{but}: draw at least one")
    boxes: dict[_Id, list[Box]] = {identity: [] for identity in images}
    for one in of_concept:
        boxes[one.image].append(one.box(images[one.image]))
    info = coco.record("info") if coco.has("info") else Record({}, f"{path}: 'info'")
    return Coco(
        concept=chosen,
        images=tuple(_image(entry, boxes[identity]) for identity, entry in images.items()),
        model=info.text_or_none("model"),
        info={key: value for key, value in info.fields.items() if key != "model"},
    )


def write_coco(path: str | Path, coco: Coco) -> Path:
    """`path`, now holding what `read_coco` gives back."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(coco.images, start=1):
        entry: dict[str, Any] = {"id": number, "width": image.width, "height": image.height}
        if image.file_name is not None:
            entry["file_name"] = image.file_name
        if image.seed is not None:
            entry["latent"] = {"seed": image.seed, "index": image.index}
        if image.sha256 is not None:
            entry["sha256"] = image.sha256
        images.append(entry)
        for box in image.boxes:
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 1,
                "bbox": [box.x, box.y, box.width, box.height],
                "area": box.area,
                "iscrowd": 0,
            }
            annotations.append(annotation)
    return write_json(
        path,
        {
            "info": coco.info if coco.model is None else {"model": coco.model, **coco.info},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": coco.concept}],
        },
    )


class _Annotation:
    """One entry of `annotations`, its image and category known to exist."""

    def __init__(
        self, entry: Record, images: dict[_Id, Record], categories: dict[_Id, str]
    ) -> None:
        self.entry = entry
        self.image = _identity(entry, "image_id")
        self.category = _identity(entry, "category_id")
        if self.image not in images:
            raise DissectError(
                f"{entry.where} is of image {self.image!r}, which is not among the images"
            )
        if self.category not in categories:
            raise DissectError(
                f"{entry.where} is of category {self.category!r}, which is not among the categories"
            )
        if entry.has("iscrowd") and entry.fields["iscrowd"] not in (0, 1):
            raise entry.refuse("iscrowd", "0 or 1")
        self.crowd = bool(entry.fields.get("iscrowd"))

    def box(self, image: Record) -> Box:
        """The box, or the bounds of the polygons, inside the image."""
        entry = self.entry
        attributes = entry.fields.get("attributes")
        turn = finite(attributes.get("rotation")) if isinstance(attributes, dict) else None
        if turn is not None and turn % 180 != 0:
            raise DissectError(
                f"{entry.where} is a box turned by {turn:g} degrees: draw it upright"
            )
        # Some tools write an empty list where a shape has no box of its own.
        if entry.has("bbox") and entry.fields["bbox"] != []:
            edges = entry.numbers("bbox", 4)
        else:
            edges = _bounds(entry)
        try:
            return Box(*edges).within(image.integer("width", 1), image.integer("height", 1))
        except DissectError as error:
            raise DissectError(f"{entry.where}: {error}") from error


def _bounds(entry: Record) -> tuple[float, float, float, float]:
    """The bounds of all polygons of an annotation, as x, y, width, height."""
    shape = entry.fields.get("segmentation")
    if isinstance(shape, dict):
        raise DissectError(
            f"{entry.where} is a run-length mask (RLE) without a box: export boxes or polygons"
        )
    if not isinstance(shape, list) or not shape:
        raise DissectError(f"{entry.where} has neither a 'bbox' nor a polygon in 'segmentation'")
    x: list[float] = []
    y: list[float] = []
    for polygon in shape:
        corners = Record({"segmentation": polygon}, entry.where).numbers("segmentation")
        if len(corners) < 6 or len(corners) % 2:
            raise DissectError(
                f"{entry.where}: a polygon is [x1, y1, x2, y2, x3, y3, ...] of 3 corners or more, "
                f"not {len(corners)} numbers"
            )
        x.extend(corners[::2])
        y.extend(corners[1::2])
    return min(x), min(y), max(x) - min(x), max(y) - min(y)


def _image(entry: Record, boxes: Sequence[Box]) -> AnnotatedImage:
    seed = index = None
    if entry.has("latent"):
        latent = entry.record("latent")
        seed, index = latent.integer("seed"), latent.integer("index")
    elif not entry.has("file_name"):
        raise DissectError(f"{entry.where} has neither a 'file_name' nor a 'latent'")
    elif named := _LATENT_IN_NAME.search(entry.text_or_none("file_name") or ""):
        # Tools keep the name of a file and nothing else: `dissect sample --each` puts it there.
        seed, index = int(named[1]), int(named[2])
    width, height = entry.integer("width", 1), entry.integer("height", 1)
    file_name, sha256 = entry.text_or_none("file_name"), entry.text_or_none("sha256")
    try:
        return AnnotatedImage(width, height, tuple(boxes), file_name, seed, index, sha256)
    except DissectError as error:
        raise DissectError(f"{entry.where}: {error}") from error


def _only_concept(path: str | Path, categories: dict[_Id, str], drawn: list[_Annotation]) -> str:
    names = set(categories.values())
    if len(names) > 1:
        names = {categories[annotation.category] for annotation in drawn} or names
    if len(names) != 1:
        listed = near_names("", categories.values())
        raise DissectError(f"{path} has {len(names)} categories; name the concept: {listed}")
    return names.pop()


def _entries(coco: Record, key: str) -> list[Record]:
    entries = []
    for number, value in enumerate(coco.items(key), start=1):
        entry = Record.of(value, f"{coco.where}: entry {number} of {key!r}")
        named = f" (id {entry.fields['id']!r})" if isinstance(entry.fields.get("id"), _Id) else ""
        entries.append(Record(entry.fields, entry.where + named))
    return entries


def _by_id(coco: Record, key: str) -> dict[_Id, Record]:
    found: dict[_Id, Record] = {}
    for entry in _entries(coco, key):
        identity = _identity(entry, "id")
        if identity in found:
            raise DissectError(f"{entry.where} has the id of an entry before it; ids are unique")
        found[identity] = entry
    return found


def _identity(entry: Record, key: str) -> _Id:
    value = entry.fields.get(key)
    if isinstance(value, bool) or not isinstance(value, _Id):
        raise entry.refuse(key, "a whole number or a string")
    return value
