"""Every route of the server: the page, boxes, and generators to explore."""

from collections.abc import Mapping
from importlib.resources import files as package_files
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dissect.studio.routes.annotate import annotation_info, annotation_routes
from dissect.studio.routes.explore import explore_routes
from dissect.studio.routes.messages import RequestParams, get, json_response
from dissect.studio.sessions import Workspace

__all__ = ["ERROR_HANDLERS", "app_routes"]

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def app_routes(workspace: Workspace) -> list[Route]:
    """The routes that serve a workspace; every other path is refused."""
    annotation, explore_sessions = workspace.annotation, workspace.explore_sessions

    def about(_: RequestParams) -> dict[str, Any]:
        return {
            "title": workspace.title,
            "annotation": None if annotation is None else annotation_info(annotation),
            "models": list(explore_sessions),
        }

    routes = [*_page(), get("/api/workspace", RequestParams, about)]
    if annotation is not None:
        routes += annotation_routes(annotation)
    if explore_sessions:
        routes += explore_routes(explore_sessions)
    return routes


def _page() -> list[Route]:
    """The files of the page, read once: no request opens a file."""

    def endpoint_for(data: bytes, media_type: str) -> Any:
        async def endpoint(_: Request) -> Response:
            return Response(data, media_type=media_type)

        return endpoint

    routes = []
    for file in (package_files("dissect.studio") / "static").iterdir():
        media_type = _TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            routes.append(Route(path, endpoint_for(file.read_bytes(), media_type), methods=["GET"]))
    return routes


def _error_response(reason: str) -> Any:
    async def handler(_: Request, error: Exception) -> Response:
        return json_response({"error": reason}, getattr(error, "status_code", 404))

    return handler


ERROR_HANDLERS: Mapping[int, Any] = {
    404: _error_response("there is nothing here"),
    405: _error_response("there is nothing here"),
    413: _error_response("the request is too large"),
}
