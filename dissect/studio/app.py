"""The application: the page, the boxes, and the rooms of the explorer where there is one."""

from importlib.resources import files as package_files
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dissect._utils.errors import DissectError
from dissect._utils.records import Record
from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.studio.drawing import Drawing
from dissect.studio.exploring import exploring_routes
from dissect.studio.messages import Asked, answer, get, picture, post
from dissect.studio.painter import png
from dissect.studio.workspace import Workspace

__all__ = ["make_app"]

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FINEST_GRID = 64


def make_app(workspace: Workspace) -> Starlette:
    """The application that serves a workspace; what it may be asked is what is listed here."""
    drawing, explorers = workspace.drawing, workspace.explorers

    def about(_: Asked) -> dict[str, Any]:
        return {
            "title": workspace.title,
            "drawing": None if drawing is None else _drawing(drawing),
            "models": list(explorers),
        }

    routes = [*_page(), get("/api/workspace", about)]
    if drawing is not None:
        routes += _drawing_routes(drawing)
    if explorers:
        routes += exploring_routes(explorers)
    handlers = {404: _no_such_thing, 405: _no_such_thing}
    return Starlette(routes=routes, exception_handlers=handlers)


def _page() -> list[Route]:
    """The files of the page, read once: what is asked for later is looked up, not opened."""

    def serving(data: bytes, kind: str) -> Any:
        async def endpoint(_: Request) -> Response:
            return Response(data, media_type=kind)

        return endpoint

    routes = []
    for file in (package_files("dissect.studio") / "static").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            routes.append(Route(path, serving(file.read_bytes(), kind), methods=["GET"]))
    return routes


async def _no_such_thing(_: Request, error: Exception) -> Response:
    return answer({"error": "there is nothing here"}, getattr(error, "status_code", 404))


def _drawing(drawing: Drawing) -> dict[str, Any]:
    pictures = drawing.pictures
    height, width = pictures.size
    return {
        "pictures": pictures.title,
        "folder": str(drawing.folder),
        "names": [pictures.name(place) for place in range(len(pictures))],
        "width": width,
        "height": height,
        "concepts": list(drawing.concepts),
        "grids": [
            {"name": name, "rows": rows, "columns": columns}
            for name, rows, columns in drawing.grids
        ],
    }


def _drawing_routes(drawing: Drawing) -> list[Route]:
    pictures = drawing.pictures

    def image(asked: Asked) -> Response:
        return picture(png(pictures.pixels(asked.whole("place", len(pictures) - 1))))

    def boxes(asked: Asked) -> dict[str, Any]:
        file = drawing.file(asked.text("concept"), asked.text("pass"))
        drawn = file.drawn()
        return {
            "boxes": [one.plain for one in drawn],
            "versions": [one.version for one in drawn],
            "file": str(file.path),
        }

    def change(asked: Asked) -> dict[str, Any]:
        sent = asked.sent
        file = drawing.file(sent.text("concept"), sent.text("pass"))
        place = asked.sent_whole("place", len(pictures) - 1)
        new = _boxes(sent) if sent.has("boxes") else None
        drawn = file.change(place, new, sent.text("version"))
        return {"boxes": drawn.plain, "version": drawn.version}

    def agreement(asked: Asked) -> dict[str, Any]:
        images, found = drawing.agreement(asked.text("concept"))
        return {
            "images": images,
            "mean_iou": found.mean_iou,
            "paired": found.n_paired,
            "only_first": found.n_only_first,
            "only_second": found.n_only_second,
        }

    def coverage(asked: Asked) -> dict[str, Any]:
        rows, columns = (asked.sent_whole(name, _FINEST_GRID) for name in ("rows", "columns"))
        height, width = pictures.size
        drawn = AnnotatedImage(width, height, _boxes(asked.sent))
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
