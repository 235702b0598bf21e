"""The server: its address, who may send requests to it, and its end at Ctrl-C."""

import asyncio
import hmac
import ipaddress
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dissect._utils.errors import DissectError
from dissect.studio.routes import ERROR_HANDLERS, app_routes, json_response
from dissect.studio.sessions import Workspace

__all__ = ["AccessPolicy", "ServerAddress", "make_server", "open_page", "serve"]

LOOPBACK = "127.0.0.1"
_MAX_BODY = 1 << 20
_MAX_QUERY = 4_096
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(frozen=True)
class AccessPolicy:
    """Which requests the server accepts.

    Starlette's `TrustedHostMiddleware` compares names alone. Here the port is compared, too, and
    an exposed server accepts any numeric address, which no list of names can express.

    Attributes:
        token: the secret first part of every path; whoever has the URL has it.
        port: what the server listens on.
        hosts: the names by which a browser may call the server, without the port.
        any_address: accept any numeric address as a host, too. Names are never accepted beyond
            `hosts`, because DNS rebinding needs a name.
    """

    token: str
    port: int
    hosts: tuple[str, ...] = (LOOPBACK, "localhost", "[::1]")
    any_address: bool = False

    def accepts_host(self, authority: str) -> bool:
        """Whether `authority`, a host and a port, is the server's own."""
        host, colon, port = authority.rpartition(":")
        if not colon or not host or port != str(self.port):
            return False
        return host.lower() in self.hosts or (self.any_address and _is_address(host))

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the reason, where a request is refused."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.accepts_host(hosts[0]):
            return 421, "open this server by the address that dissect printed"
        for origin in headers.getlist("origin"):
            scheme, _, authority = origin.partition("://")
            if scheme != "http" or not self.accepts_host(authority):
                return 403, "requests from other sites are refused"
        first = scope["path"].split("/", 2)
        token = first[1] if len(first) == 3 else ""
        if not hmac.compare_digest(token.encode(errors="replace"), self.token.encode()):
            return 403, "open the whole address that dissect printed; this one lacks its token"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "only GET and POST are supported"
        if len(scope.get("query_string", b"")) > _MAX_QUERY:
            return 414, f"a query is at most {_MAX_QUERY} bytes"
        types = headers.getlist("content-type")
        is_json = [one.partition(";")[0].strip().lower() for one in types] == ["application/json"]
        if scope["method"] == "POST" and not is_json:
            return 415, "the body of a request must be application/json"
        return None


class AccessMiddleware:
    """Refuses what the policy does not accept, and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, policy: AccessPolicy) -> None:
        self.app = app
        self.policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self.policy.refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send_with_headers)
            return
        status, reason = refusal
        answer = json_response({"error": reason}, status)
        # An unread body must not be taken for the next request.
        answer.headers["connection"] = "close"
        await answer(scope, receive, send_with_headers)


@dataclass(frozen=True)
class ServerAddress:
    """A socket that listens, and who may send requests to it.

    Attributes:
        listener: bound, and accepting.
        policy: with a token drawn at random.
        url: what to open, token and all.
    """

    listener: socket.socket
    policy: AccessPolicy
    url: str

    @classmethod
    def bind(cls, port: int = 0, expose_to_network: str | None = None) -> "ServerAddress":
        """An address for this machine only, unless one of its own addresses is exposed.

        Args:
            port: 0 is any free one.
            expose_to_network: the address at which other machines may reach the server, such as
                192.168.1.5, or 0.0.0.0 for every network that this machine is on.

        Raises:
            DissectError: the port is in use or not allowed, or there is no such address.
        """
        host = expose_to_network or LOOPBACK
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=128)
        except OverflowError as error:
            raise DissectError(
                f"port {port} does not exist: ports are 1 to 65535, or 0 for any"
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise DissectError(
                f"cannot listen on {host} port {port}: {reason}; leave out --port for a free one"
            ) from error
        bound = int(listener.getsockname()[1])
        token = secrets.token_urlsafe(24)
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        policy = AccessPolicy(token, bound)
        if expose_to_network is not None:
            hosts = {*policy.hosts, shown, socket.gethostname().lower()}
            policy = AccessPolicy(token, bound, tuple(sorted(hosts)), any_address=True)
            if host in ("0.0.0.0", "::"):
                shown = socket.gethostname()
        return cls(listener, policy, f"http://{shown}:{bound}/{token}/")


def make_server(address: ServerAddress, workspace: Workspace) -> uvicorn.Server:
    """The server, to be run on the address's listener; `should_exit` ends it.

    When it has ended, so has everything that the workspace did in the background.
    """
    policy = address.policy

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        preparation = asyncio.create_task(asyncio.to_thread(workspace.prepare))
        try:
            yield
        finally:
            preparation.cancel()
            workspace.close()

    app = Starlette(
        routes=[Mount(f"/{policy.token}", routes=app_routes(workspace))],
        middleware=[Middleware(AccessMiddleware, policy=policy)],
        exception_handlers=ERROR_HANDLERS,
        max_body_size=_MAX_BODY,
        lifespan=lifespan,
    )
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            # A page may hold connections open; Ctrl-C must not wait for them.
            timeout_graceful_shutdown=1,
            limit_concurrency=128,
            h11_max_incomplete_event_size=32_768,
        )
    )


def serve(
    address: ServerAddress, workspace: Workspace, *, browser: bool, note: Callable[[str], None]
) -> None:
    """Serve the workspace until Ctrl-C or SIGTERM.

    Args:
        address: where.
        workspace: what.
        browser: whether to open the page.
        note: called with messages for the user.
    """
    server = make_server(address, workspace)
    if browser:
        threading.Thread(target=open_page, args=(address.url, note), daemon=True).start()
    # uvicorn raises the signal again after its shutdown; here that is the ordinary end.
    with suppress(KeyboardInterrupt):
        server.run(sockets=[address.listener])


def open_page(url: str, note: Callable[[str], None]) -> None:
    """Open a browser at `url`; `note` is called where there is none."""
    screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    # Without a screen, Python would start a browser for terminals in the middle of ours.
    if not screen or not webbrowser.open(url):
        note("no browser could be opened here: open the address yourself")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
