"""Visitors are told apart by a cookie that cannot be guessed. Each sees only their own photos and jobs."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MONTH = 30 * 24 * 3600
_KEY = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 bits


def owner_of(request: Request) -> str:
    """The visitor who sent a request, by the name that the store and the queue use."""
    return str(request.state.owner)


class Visitors:
    """ASGI middleware that tells visitors apart, and gives new ones their cookie.

    Args:
        app: the application, which calls `owner_of`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note a request's visitor, and hand the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        name = cookie_name(headers.get("host", ""))
        carried = cookie_parser(headers.get("cookie", "")).get(name, "")
        known = _KEY.fullmatch(carried)
        key = carried if known else secrets.token_urlsafe(32)
        # Only a digest is kept: from the files on disk, nobody can make the visitor's cookie.
        scope.setdefault("state", {})["owner"] = hashlib.sha256(key.encode()).hexdigest()[:32]

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and not known:
                cookie = f"{name}={key}; Path=/; Max-Age={_MONTH}; HttpOnly; SameSite=Strict"
                MutableHeaders(scope=message).append("set-cookie", cookie)
            await send(message)

        await self._app(scope, receive, sending)


def cookie_name(host: str) -> str:
    """The cookie's name; it has the port in it, since browsers send a host's cookies to all its ports."""
    try:
        port = urlsplit(f"//{host}").port
    except ValueError:
        port = None
    return f"refiner_{port or 80}"
