"""What the page asks about boxes: pictures, boxes, agreement of two passes, coverage of cells."""

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from dissect._utils.errors import DissectError
from dissect._utils.schema import NonEmpty
from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.studio.routes.messages import RequestParams, WholeNumber, get, png_response, post
from dissect.studio.sessions import AnnotationSession
from dissect.studio.sessions.generator import png

__all__ = ["annotation_info", "annotation_routes"]

_GridSide = Annotated[int, Field(ge=0, le=64)]
_Boxes = tuple[tuple[float, float, float, float], ...]


class _Picture(RequestParams):
    position: WholeNumber


class _Concept(RequestParams):
    concept: NonEmpty


class _File(_Concept):
    which: Literal["first", "second"] = Field(alias="pass")


class _Change(_File, _Picture):
    boxes: _Boxes | None = None
    version: NonEmpty


class _Coverage(RequestParams):
    boxes: _Boxes
    rows: _GridSide
    columns: _GridSide


def annotation_info(annotation: AnnotationSession) -> dict[str, Any]:
    """What the page needs to know of the session when it opens."""
    pictures = annotation.pictures
    height, width = pictures.size
    return {
        "pictures": pictures.title,
        "folder": str(annotation.folder),
        "names": [pictures.name(position) for position in range(len(pictures))],
        "width": width,
        "height": height,
        "concepts": list(annotation.concepts),
        "grids": [
            {"name": name, "rows": rows, "columns": columns}
            for name, rows, columns in annotation.grids
        ],
    }


def annotation_routes(annotation: AnnotationSession) -> list[Route]:
    """The routes of the page where boxes are drawn."""
    pictures = annotation.pictures

    def position_of(params: _Picture) -> int:
        if params.position >= len(pictures):
            raise DissectError(f"the request: 'position' must be at most {len(pictures) - 1}")
        return params.position

    def image(params: _Picture) -> Response:
        return png_response(png(pictures.pixels(position_of(params))))

    def boxes(params: _File) -> dict[str, Any]:
        file = annotation.file(params.concept, params.which)
        images = file.images()
        return {
            "boxes": [image.to_list() for image in images],
            "versions": [image.version for image in images],
            "file": str(file.path),
        }

    def change(params: _Change) -> dict[str, Any]:
        file = annotation.file(params.concept, params.which)
        new = None if params.boxes is None else _to_boxes(params.boxes)
        return file.change(position_of(params), new, params.version).to_dict()

    def agreement(params: _Concept) -> dict[str, Any]:
        images, agreed = annotation.agreement(params.concept)
        return {
            "images": images,
            "mean_iou": agreed.mean_iou,
            "paired": agreed.n_paired,
            "only_first": agreed.n_only_first,
            "only_second": agreed.n_only_second,
        }

    def coverage(params: _Coverage) -> dict[str, Any]:
        height, width = pictures.size
        image = AnnotatedImage(width, height, _to_boxes(params.boxes))
        cells = Annotations("drawn", (image,)).coverage((params.rows, params.columns))[0]
        return {"coverage": [[round(cell, 3) for cell in row] for row in cells.tolist()]}

    return [
        get("/api/picture/{position}.png", _Picture, image),
        get("/api/boxes", _File, boxes),
        post("/api/boxes", _Change, change),
        get("/api/agreement", _Concept, agreement),
        post("/api/coverage", _Coverage, coverage),
    ]


def _to_boxes(boxes: _Boxes) -> tuple[Box, ...]:
    checked = []
    for number, edges in enumerate(boxes, start=1):
        try:
            checked.append(Box(*edges))
        except DissectError as error:
            raise DissectError(f"box {number}: {error}") from error
    return tuple(checked)
