"""COCO JSON: the boxes of one category, out of our own files and out of any annotation tool's."""

import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from dissect._utils.errors import DissectError
from dissect._utils.io import read_json
from dissect._utils.schema import NonEmpty, parse
from dissect._utils.text import finite, near_names
from dissect.annotations.boxes import AnnotatedImage, Box

__all__ = ["Coco", "coco_dict", "read_coco"]

_Id = int | str
_LATENT_IN_NAME = re.compile(r"(?:^|[/\\_-])seed(\d{1,18})-(\d{1,18})\.\w+$")


class Coco(NamedTuple):
    """What a COCO file says of one category."""

    concept: str
    images: tuple[AnnotatedImage, ...]
    model: str | None
    info: dict[str, Any]


def _check_id(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, _Id):
        raise ValueError("must be a whole number or a string")
    return value


def _check_crowd(value: Any) -> bool:
    if value not in (0, 1, None):
        raise ValueError("must be 0 or 1")
    return bool(value)


def _check_box(value: Any) -> tuple[float, ...] | None:
    # Some tools write an empty list where a shape has no box of its own.
    if value is None or value == []:
        return None
    edges = _numbers(value)
    if edges is None or len(edges) != 4:
        raise ValueError("must be a list of 4 finite numbers")
    return edges


def _numbers(value: Any) -> tuple[float, ...] | None:
    """A list of finite numbers; None where it is something else."""
    if not isinstance(value, list):
        return None
    numbers = tuple(number for number in map(finite, value) if number is not None)
    return numbers if len(numbers) == len(value) else None


class _Model(BaseModel):
    """An object of a COCO file; tools write much more into it, which is ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


_Identity = Annotated[_Id, BeforeValidator(_check_id)]


class _Latent(_Model):
    seed: int = Field(ge=0)
    index: int = Field(ge=0)


class _Image(_Model):
    id: _Identity
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    file_name: NonEmpty | None = None
    latent: _Latent | None = None
    sha256: NonEmpty | None = None


class _Category(_Model):
    id: _Identity
    name: NonEmpty


class _Annotation(_Model):
    image_id: _Identity
    category_id: _Identity
    iscrowd: Annotated[bool, BeforeValidator(_check_crowd)] = False


class _Shape(_Model):
    """What is drawn; read only of the concept in question."""

    bbox: Annotated[tuple[float, ...] | None, BeforeValidator(_check_box)] = None
    segmentation: Any = None
    attributes: Any = None


class _Info(_Model):
    model: NonEmpty | None = None


_Entry = TypeVar("_Entry", _Image, _Category)


def read_coco(path: str | Path, concept: str | None, *, allow_empty: bool) -> Coco:
    """The boxes of one category of the file at `path` (see `Annotations.load`).

    Raises:
        DissectError: one line with the file, the entry and what is wrong with it.
    """
    coco = read_json(path)
    if not isinstance(coco, dict):
        raise DissectError(f"{path} must be an object {{...}}, not {reprlib.repr(coco)}")
    for key in ("images", "annotations", "categories"):
        if key not in coco:
            raise DissectError(
                f"{path} has no {key!r}, so it is not COCO: export it from the annotation tool in "
                "the format called COCO"
            )
        if not isinstance(coco[key], list):
            raise DissectError(
                f"{path}: {key!r} must be a list [...], not {reprlib.repr(coco[key])}"
            )
    images = _by_id(_Image, coco, "images", path)
    categories = {
        identity: category.name
        for identity, (category, _) in _by_id(_Category, coco, "categories", path).items()
    }
    drawn: list[tuple[_Annotation, Any, str]] = []
    crowds: list[str] = []
    for number, value in enumerate(coco["annotations"], start=1):
        where = _named(f"{path}: entry {number} of 'annotations'", value)
        entry = parse(_Annotation, value, where)
        if entry.image_id not in images:
            raise DissectError(
                f"{where} is of image {entry.image_id!r}, which is not among the images"
            )
        if entry.category_id not in categories:
            raise DissectError(
                f"{where} is of category {entry.category_id!r}, which is not among the categories"
            )
        if entry.iscrowd:
            crowds.append(categories[entry.category_id])
        else:
            drawn.append((entry, value, where))
    names_drawn = {categories[entry.category_id] for entry, _, _ in drawn}
    chosen = concept or _only_concept(path, set(categories.values()), names_drawn)
    if chosen not in categories.values():
        near = near_names(chosen, categories.values())
        raise DissectError(f"{path} has no category {chosen!r}; near names are {near}")
    if chosen not in names_drawn and not allow_empty:
        n_crowds = crowds.count(chosen)
        but = f" (only {n_crowds} crowd regions, which are skipped)" if n_crowds else ""
        raise DissectError(f"{path} has not one box of {chosen!r}{but}: draw at least one")
    boxes: dict[_Id, list[Box]] = {identity: [] for identity in images}
    for entry, value, where in drawn:
        if categories[entry.category_id] == chosen:
            image, _ = images[entry.image_id]
            boxes[entry.image_id].append(_box(value, image, where))
    info = {} if coco.get("info") is None else coco["info"]
    model = parse(_Info, info, f"{path}: 'info'").model
    return Coco(
        concept=chosen,
        images=tuple(
            _image(image, boxes[identity], where) for identity, (image, where) in images.items()
        ),
        model=model,
        info={key: value for key, value in info.items() if key != "model"},
    )


def coco_dict(coco: Coco) -> dict[str, Any]:
    """The object of JSON that `read_coco` reads back."""
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
    return {
        "info": coco.info if coco.model is None else {"model": coco.model, **coco.info},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": coco.concept}],
    }


def _box(value: Any, image: _Image, where: str) -> Box:
    """The box of an annotation, or the bounds of its polygons, inside the image."""
    shape = parse(_Shape, value, where)
    rotation = None
    if isinstance(shape.attributes, Mapping):
        rotation = finite(shape.attributes.get("rotation"))
    if rotation is not None and rotation % 180 != 0:
        raise DissectError(f"{where} is a box turned by {rotation:g} degrees: draw it upright")
    edges = _bounds(shape.segmentation, where) if shape.bbox is None else shape.bbox
    try:
        return Box(*edges).within(image.width, image.height)
    except DissectError as error:
        raise DissectError(f"{where}: {error}") from error


def _bounds(polygons: Any, where: str) -> tuple[float, ...]:
    """The bounds of all polygons of an annotation, as x, y, width, height."""
    if isinstance(polygons, dict):
        raise DissectError(
            f"{where} is a run-length mask (RLE) without a box: export boxes or polygons"
        )
    if not isinstance(polygons, list) or not polygons:
        raise DissectError(f"{where} has neither a 'bbox' nor a polygon in 'segmentation'")
    x: list[float] = []
    y: list[float] = []
    for polygon in polygons:
        corners = _numbers(polygon)
        if corners is None:
            raise DissectError(
                f"{where}: 'segmentation' must be a list of finite numbers for each polygon, not "
                f"{reprlib.repr(polygon)}"
            )
        if len(corners) < 6 or len(corners) % 2:
            raise DissectError(
                f"{where}: a polygon is [x1, y1, x2, y2, x3, y3, ...] of 3 corners or more, "
                f"not {len(corners)} numbers"
            )
        x.extend(corners[::2])
        y.extend(corners[1::2])
    return min(x), min(y), max(x) - min(x), max(y) - min(y)


def _image(image: _Image, boxes: Sequence[Box], where: str) -> AnnotatedImage:
    seed = index = None
    if image.latent is not None:
        seed, index = image.latent.seed, image.latent.index
    elif image.file_name is None:
        raise DissectError(f"{where} has neither a 'file_name' nor a 'latent'")
    elif named := _LATENT_IN_NAME.search(image.file_name):
        # Tools keep the name of a file and nothing else: `dissect sample` puts the latent there.
        seed, index = int(named[1]), int(named[2])
    try:
        return AnnotatedImage(
            image.width, image.height, tuple(boxes), image.file_name, seed, index, image.sha256
        )
    except DissectError as error:
        raise DissectError(f"{where}: {error}") from error


def _only_concept(path: str | Path, known: set[str], drawn: set[str]) -> str:
    names = drawn or known if len(known) > 1 else known
    if len(names) != 1:
        listed = near_names("", known)
        raise DissectError(f"{path} has {len(names)} categories; name the concept: {listed}")
    return next(iter(names))


def _named(where: str, value: Any) -> str:
    identity = value.get("id") if isinstance(value, dict) else None
    return f"{where} (id {identity!r})" if isinstance(identity, _Id) else where


def _by_id(
    model: type[_Entry], coco: Mapping[str, Any], key: str, path: str | Path
) -> dict[_Id, tuple[_Entry, str]]:
    """The entries by their id, each with what it is called in an error."""
    entries: dict[_Id, tuple[_Entry, str]] = {}
    for number, value in enumerate(coco[key], start=1):
        where = _named(f"{path}: entry {number} of {key!r}", value)
        entry = parse(model, value, where)
        if entry.id in entries:
            raise DissectError(f"{where} has the id of an entry before it; ids are unique")
        entries[entry.id] = (entry, where)
    return entries
