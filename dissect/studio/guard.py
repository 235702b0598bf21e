"""Who may speak to the server: the address, the origin, the secret and the size of a request."""

import hmac
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Door", "Guard"]

_LARGEST_BODY = 1 << 20
_LARGEST_QUERY = 4_096
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


@dataclass(frozen=True)
class Door:
    """Where the server is reached, and the secret that opens it.

    Attributes:
        token: the first part of every path; whoever has the URL has it.
        port: what the server listens on.
        names: the names by which a browser may call the server, without the port.
        any_address: whether an address in digits is welcome, too; a name never is, for names are
            what DNS rebinding brings.
    """

    token: str
    port: int
    names: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    any_address: bool = False

    def welcomes(self, authority: str) -> bool:
        """Whether `authority`, a name and a port, is the server's own."""
        name, colon, port = authority.rpartition(":")
        if not colon or not name or port != str(self.port):
            return False
        if name.lower() in self.names:
            return True
        return self.any_address and _is_address(name)


class Guard:
    """Lets through what comes by the door, with the token taken off its path.

    Everything else is refused before the application sees it: another Host (421), another Origin
    or token (403), a method (405), a type (415), a body or a query too large (413, 414).
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app = app
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        body = b""
        if refusal is None and scope["method"] == "POST":
            read = await _body(receive)
            if read is None:
                refusal = 413, f"a request holds at most {_LARGEST_BODY} bytes"
            else:
                body = read
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        prefix = f"/{self.door.token}"
        path = scope["path"][len(prefix) :]
        await self.app(
            {**scope, "path": path, "raw_path": path.encode(), "root_path": ""},
            _replayed(body, receive),
            _with_headers(send),
        )

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the reason, where the request is not let through."""
        headers = _headers(scope)
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self.door.welcomes(hosts[0]):
            return 421, "this server is called by the address that dissect printed"
        for origin in headers.get("origin", []):
            scheme, _, authority = origin.partition("://")
            if scheme != "http" or not self.door.welcomes(authority):
                return 403, "requests from other sites are refused"
        first = scope["path"].split("/", 2)
        token = first[1] if len(first) == 3 else ""
        if not hmac.compare_digest(token.encode(errors="replace"), self.door.token.encode()):
            return 403, "open the whole address that dissect printed; this one lacks its secret"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "GET and POST are all there is"
        if len(scope.get("query_string", b"")) > _LARGEST_QUERY:
            return 414, f"a query holds at most {_LARGEST_QUERY} bytes"
        if scope["method"] == "POST":
            types = headers.get("content-type", [])
            if len(types) != 1 or types[0].partition(";")[0].strip().lower() != "application/json":
                return 415, "what is sent must be application/json"
            length = headers.get("content-length", ["0"])[0]
            if not length.isdecimal() or int(length[:12]) > _LARGEST_BODY or len(length) > 12:
                return 413, f"a request holds at most {_LARGEST_BODY} bytes"
        return None


def _headers(scope: Scope) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or None where it is too large."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > _LARGEST_BODY:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", []), *_HEADERS]
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return sending


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        # What was not read of a body must not be taken for the next request.
        (b"connection", b"close"),
        *_HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
