"""What the page asks about boxes: pictures, boxes, agreement of two passes, coverage of cells."""

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from dissect._utils.errors import DissectError
from dissect._utils.records import Record
from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.studio.routes.messages import RequestParams, get, picture, post
from dissect.studio.sessions import AnnotationSession
from dissect.studio.sessions.generator import png

__all__ = ["annotation_info", "annotation_routes"]

_FINEST_GRID = 64


def annotation_info(annotation: AnnotationSession) -> dict[str, Any]:
    """What the page is told first."""
    pictures = annotation.pictures
    height, width = pictures.size
    return {
        "pictures": pictures.title,
        "folder": str(annotation.folder),
        "names": [pictures.name(place) for place in range(len(pictures))],
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

    def image(params: RequestParams) -> Response:
        return picture(png(pictures.pixels(params.whole("place", len(pictures) - 1))))

    def boxes(params: RequestParams) -> dict[str, Any]:
        file = annotation.file(params.text("concept"), params.text("pass"))
        drawn = file.drawn()
        return {
            "boxes": [one.plain for one in drawn],
            "versions": [one.version for one in drawn],
            "file": str(file.path),
        }

    def change(params: RequestParams) -> dict[str, Any]:
        sent = params.sent
        file = annotation.file(sent.text("concept"), sent.text("pass"))
        place = params.sent_whole("place", len(pictures) - 1)
        new = _boxes(sent) if sent.has("boxes") else None
        drawn = file.change(place, new, sent.text("version"))
        return {"boxes": drawn.plain, "version": drawn.version}

    def agreement(params: RequestParams) -> dict[str, Any]:
        images, found = annotation.agreement(params.text("concept"))
        return {
            "images": images,
            "mean_iou": found.mean_iou,
            "paired": found.n_paired,
            "only_first": found.n_only_first,
            "only_second": found.n_only_second,
        }

    def coverage(params: RequestParams) -> dict[str, Any]:
        rows, columns = (params.sent_whole(name, _FINEST_GRID) for name in ("rows", "columns"))
        height, width = pictures.size
        drawn = AnnotatedImage(width, height, _boxes(params.sent))
        shares = Annotations("drawn", (drawn,)).coverage((rows, columns))[0]
        return {"shares": [[round(share, 3) for share in row] for row in shares.tolist()]}

    return [
        get("/api/picture/{place}.png", image),
        get("/api/boxes", boxes),
        post("/api/boxes", change),
        get("/api/agreement", agreement),
        post("/api/coverage", coverage),
    ]


def _boxes(sent: Record) -> tuple[Box, ...]:
    found = []
    for number, edges in enumerate(sent.items("boxes"), start=1):
        four = Record({"box": edges}, f"box {number}").numbers("box", 4)
        try:
            found.append(Box(*four))
        except DissectError as error:
            raise DissectError(f"box {number}: {error}") from error
    return tuple(found)
