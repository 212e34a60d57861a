"""Running the server: its address, its token, the browser that opens it, and its end."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import webbrowser
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import uvicorn

from refiner.errors import InputError, Option
from refiner.web.app import make_app
from refiner.web.guard import Access
from refiner.web.patience import PatientProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from refiner.web.service import Config

TOKEN_VARIABLE = "REFINER_WEB_TOKEN"  # noqa: S105  the name of a variable
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_LEAST_TOKEN = 16  # characters
_USUAL_PORT = 8430
_PATIENCE = 20  # seconds that the server waits at its end for requests being answered, such as plans


@dataclass(frozen=True)
class Address:
    """Where to listen.

    Attributes:
        host: address of the interface.
        port: None for 8430, or any free port where 8430 is taken.
        names: further host names of the server, such as a proxy's.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    names: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in _LOOPBACK

    @property
    def needs_token(self) -> bool:
        """Whether others may reach the server: by its address, or through a proxy on this machine by a further name."""
        return not self.local or bool(set(self.names) - _LOOPBACK)


def serve(config: Config, address: Address, say: Callable[[str], object], *, browser: bool = True) -> None:
    """Serve until interrupted.

    Args:
        config: the server's configuration; its access and its key are set here.
        address: where to listen.
        say: called with each line for the user, the address first.
        browser: open the address in a browser.

    Raises:
        InputError: the address cannot be listened at, or the token is too short or has other characters.
    """
    token = _token() if address.needs_token or TOKEN_VARIABLE in os.environ else None
    with _listening(address) as listener:
        _serve_at(listener, config, address, token, say, browser=browser)


def _serve_at(
    listener: socket.socket,
    config: Config,
    address: Address,
    token: str | None,
    say: Callable[[str], object],
    *,
    browser: bool,
) -> None:
    port = listener.getsockname()[1]
    names = {*address.names, *([] if address.local else [address.host, socket.gethostname()])}
    access = Access(frozenset(name.lower() for name in names), token, f"refiner_token_{port}")
    key = secrets.token_urlsafe(16) if config.photo is not None else None
    app = make_app(replace(config, access=access, open_key=key))
    url = f"http://{_spelled(address)}:{port}/"
    given = {"token": token, "open": key}
    query = "&".join(f"{name}={value}" for name, value in given.items() if value is not None)
    shown = f"{url}?{query}" if query else url
    say(shown)
    if token is not None:
        say(f"Everybody who has this address can use the server. A token of your own: {TOKEN_VARIABLE}.")
    if browser:
        threading.Timer(0.5, webbrowser.open, [shown]).start()
    settings = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=_PATIENCE,
        server_header=False,
        ws="none",
        http=PatientProtocol,
        lifespan="on",
    )
    server = _Server(settings, app.state.service.queue.cancel_all)
    try:
        server.run(sockets=[listener])
    finally:
        app.state.workspace.close()


class _Server(uvicorn.Server):
    """A server that ends its jobs before it waits for the requests that follow them."""

    def __init__(self, config: uvicorn.Config, before_exit: Callable[[], object]) -> None:
        super().__init__(config)
        self._before_exit = before_exit

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Called on a signal to end."""
        self._before_exit()
        super().handle_exit(sig, frame)


def _token() -> str:
    given = os.environ.get(TOKEN_VARIABLE)
    if given is None:
        return secrets.token_urlsafe(24)
    if len(given) < _LEAST_TOKEN or not given.isascii() or not given.replace("-", "").replace("_", "").isalnum():
        raise InputError(
            f"{TOKEN_VARIABLE}: expected {_LEAST_TOKEN} or more letters, digits, hyphens and underscores, so that "
            "nobody can guess it."
        )
    return given


def _listening(address: Address) -> socket.socket:
    """A bound socket: at the port asked for, else at the usual one, else at any free one."""
    ports = [address.port] if address.port is not None else [_USUAL_PORT, 0]
    for port in ports:
        try:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            return _bound(family, address.host, port)
        except (OSError, OverflowError) as error:  # noqa: PERF203  two at most
            reason = getattr(error, "strerror", None) or error
    raise InputError(
        f"{address.host}:{ports[-1]}: cannot be listened at ({reason}); choose with ",
        Option("host"),
        " and ",
        Option("port"),
        ".",
    )


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    # Named as TCP, asyncio sends answers at once; else each would wait 40 ms for the last part's acknowledgment.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


def _spelled(address: Address) -> str:
    """The host as it is written in a URL to open."""
    host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(address.host, address.host)  # noqa: S104  what was asked for
    return f"[{host}]" if ":" in host else host
