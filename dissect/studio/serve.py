"""The server: a socket of its own, an address to open, and an end at Ctrl-C."""

import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import uvicorn

from dissect._utils.errors import DissectError
from dissect.studio.app import make_app
from dissect.studio.guard import Door, Guard
from dissect.studio.workspace import Workspace

__all__ = ["Place", "make_server", "open_page", "serve", "take_place"]

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Place:
    """A socket that listens, and the door to what will be served there.

    Attributes:
        listener: bound, and accepting.
        door: with a token drawn at random.
        url: what to open, token and all.
    """

    listener: socket.socket
    door: Door
    url: str


def take_place(port: int = 0, expose_to_network: str | None = None) -> Place:
    """A place to serve at: this machine only, unless an address of it is exposed on purpose.

    Args:
        port: 0 is any free one.
        expose_to_network: the address to listen on for other machines, such as 192.168.1.5, or
            0.0.0.0 for every network that this machine is on.

    Raises:
        DissectError: the port is in use or not allowed, or there is no such address.
    """
    address = expose_to_network or LOOPBACK
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, port), family=family, backlog=128)
    except OverflowError as error:
        raise DissectError(f"port {port} cannot be: ports are 1 to 65535, or 0 for any") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DissectError(
            f"cannot listen on {address} port {port}: {reason}; leave out --port for a free one"
        ) from error
    taken = int(listener.getsockname()[1])
    token = secrets.token_urlsafe(24)
    shown = f"[{address}]" if family == socket.AF_INET6 else address
    if expose_to_network is None:
        door = Door(token, taken)
    else:
        names = {LOOPBACK, "localhost", "[::1]", shown, socket.gethostname().lower()}
        door = Door(token, taken, tuple(sorted(names)), any_address=True)
        if address in ("0.0.0.0", "::"):
            shown = socket.gethostname()
    return Place(listener, door, f"http://{shown}:{taken}/{token}/")


def make_server(place: Place, workspace: Workspace) -> uvicorn.Server:
    """The server, to be run on the place's listener; `should_exit` ends it."""
    return uvicorn.Server(
        uvicorn.Config(
            Guard(make_app(workspace), place.door),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            # A page may hold connections open; who presses Ctrl-C does not want to wait for them.
            timeout_graceful_shutdown=1,
            limit_concurrency=128,
            h11_max_incomplete_event_size=32_768,
        )
    )


def serve(
    place: Place, workspace: Workspace, *, browser: bool, note: Callable[[str], None]
) -> None:
    """Serve the workspace until Ctrl-C or SIGTERM.

    Args:
        place: where.
        workspace: what.
        browser: whether to open the page.
        note: what is said to whoever started the server.
    """
    server = make_server(place, workspace)
    if browser:
        threading.Thread(target=open_page, args=(place.url, note), daemon=True).start()
    # uvicorn raises the signal again when it has shut down: here that is the ordinary end.
    for explorer in list(workspace.explorers.values())[:1]:
        threading.Thread(target=explorer.prepare, daemon=True).start()
    try:
        with suppress(KeyboardInterrupt):
            server.run(sockets=[place.listener])
    finally:
        for explorer in workspace.explorers.values():
            explorer.close()


def open_page(url: str, note: Callable[[str], None]) -> None:
    """Open a browser at `url`, or say with `note` that there is none."""
    screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    # Without a screen, Python would start a browser for terminals in the middle of ours.
    if not screen or not webbrowser.open(url):
        note("no browser could be opened here: open the address yourself")
