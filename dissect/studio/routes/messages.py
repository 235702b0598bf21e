"""Between requests and functions: values checked on the way in, JSON on the way out."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dissect._utils.errors import DissectError
from dissect._utils.records import Record
from dissect.studio.sessions.box_file import ConflictError

__all__ = ["LARGEST", "RequestParams", "json_response", "get", "picture", "post"]

# The largest whole number that every browser can count to.
LARGEST = (1 << 53) - 1


@dataclass(frozen=True)
class RequestParams:
    """A request: the words of its path and query, and what was sent with it."""

    words: Mapping[str, str]
    sent: Record

    def text(self, key: str) -> str:
        """A word that must be there."""
        if not self.words.get(key):
            raise DissectError(f"the request needs {key!r}")
        return self.words[key]

    def whole(self, key: str, most: int = LARGEST) -> int:
        """A whole number from 0 to `most`."""
        value = self.words.get(key, "")
        if not (value.isascii() and value.isdecimal() and len(value) <= 16) or int(value) > most:
            raise DissectError(f"{key!r} must be a whole number from 0 to {most}")
        return int(value)

    def sent_whole(self, key: str, most: int = LARGEST) -> int:
        """The same, out of what was sent."""
        return checked_whole(self.sent, key, most)


def checked_whole(record: Record, key: str, most: int = LARGEST) -> int:
    """A whole number from 0 to `most` out of a record.

    Raises:
        DissectError: it is something else.
    """
    value = record.integer(key)
    if value > most:
        raise DissectError(f"{record.where}: {key!r} must be at most {most}")
    return value


def json_response(value: Any, status: int = 200) -> Response:
    """`value` as JSON."""
    # Plain ASCII, for what was sent may come back in a message, and be no text at all.
    body = json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    return Response(body, status, media_type="application/json")


def picture(data: bytes) -> Response:
    """A PNG; under a token of its own it is never another one."""
    headers = {"cache-control": "private, max-age=86400, immutable"}
    return Response(data, headers=headers, media_type="image/png")


def get(path: str, function: Callable[[RequestParams], Any]) -> Route:
    """A route that answers with what `function` returns, off the event loop."""

    async def endpoint(request: Request) -> Response:
        words = {**request.query_params, **request.path_params}
        return await run_in_threadpool(_answered, function, words, None)

    return Route(path, endpoint, methods=["GET"])


def post(path: str, function: Callable[[RequestParams], Any]) -> Route:
    """The same, for what changes something or is too long for a query."""

    async def endpoint(request: Request) -> Response:
        words = {**request.query_params, **request.path_params}
        return await run_in_threadpool(_answered, function, words, await request.body())

    return Route(path, endpoint, methods=["POST"])


def _answered(
    function: Callable[[RequestParams], Any], words: Mapping[str, str], body: bytes | None
) -> Response:
    try:
        sent = Record({}, "the request") if body is None else _read(body)
        value = function(RequestParams(words, sent))
    except ConflictError as error:
        current = {"boxes": error.current.plain, "version": error.current.version}
        return json_response({"error": str(error), **current}, 409)
    except DissectError as error:
        return json_response({"error": str(error)}, 422)
    return value if isinstance(value, Response) else json_response(value)


def _read(body: bytes) -> Record:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DissectError("what was sent is not JSON") from error
    return Record.of(value, "the request")
