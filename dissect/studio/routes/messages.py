"""Requests are checked on the way in, and answered in JSON on the way out."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dissect._utils.errors import DissectError
from dissect._utils.schema import FileModel, parse
from dissect.studio.sessions import ConflictError

__all__ = ["RequestParams", "WholeNumber", "get", "json_response", "png_response", "post"]

# JavaScript counts exactly to here.
WholeNumber = Annotated[int, Field(ge=0, le=(1 << 53) - 1)]


class RequestParams(FileModel, extra="ignore"):
    """What a request holds: words of its path and query, or the fields of its body."""


_Params = TypeVar("_Params", bound=RequestParams)


def json_response(value: Any, status: int = 200) -> Response:
    """`value` as JSON."""
    # Plain ASCII, because a message may repeat characters of a request that no encoding has.
    body = json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    return Response(body, status, media_type="application/json")


def png_response(data: bytes) -> Response:
    """A PNG; the browser may keep it, because the URL of another session has another token."""
    headers = {"cache-control": "private, max-age=86400, immutable"}
    return Response(data, headers=headers, media_type="image/png")


# `asyncio.to_thread`, because its threads are joined when the server ends. Those of Starlette are
# daemons, which Python would stop inside torch, and that aborts the process.


def get(path: str, model: type[_Params], function: Callable[[_Params], Any]) -> Route:
    """A route that answers with what `function` returns for the words of path and query."""

    async def endpoint(request: Request) -> Response:
        words = {**request.query_params, **request.path_params}
        return await asyncio.to_thread(
            _answer, lambda: function(parse(model, words, "the request", strings=True))
        )

    return Route(path, endpoint, methods=["GET"])


def post(path: str, model: type[_Params], function: Callable[[_Params], Any]) -> Route:
    """A route that answers with what `function` returns for the body, an object of JSON."""

    async def endpoint(request: Request) -> Response:
        body = await request.body()
        return await asyncio.to_thread(_answer, lambda: function(_parse_body(model, body)))

    return Route(path, endpoint, methods=["POST"])


def _answer(function: Callable[[], Any]) -> Response:
    try:
        value = function()
    except ConflictError as error:
        return json_response({"error": str(error), **error.current.to_dict()}, 409)
    except DissectError as error:
        return json_response({"error": str(error)}, 422)
    return value if isinstance(value, Response) else json_response(value)


def _parse_body(model: type[_Params], body: bytes) -> _Params:
    try:
        value: Mapping[str, Any] = json.loads(body)
        return parse(model, value, "the request")
    except (ValueError, RecursionError) as error:
        raise DissectError("the body of the request is not JSON") from error
