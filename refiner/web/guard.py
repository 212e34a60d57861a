"""Access control: checks Host, Origin and token of every request, and adds security headers to every answer.

Every page in the same browser can reach a server on the loopback address. A page of another site can send requests
here, so the Origin is checked. It can also make its own host name point here, so the Host is checked.
"""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse

from refiner.web.problems import FORBIDDEN, MISDIRECTED, UNAUTHORIZED, refusal

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_YEAR = 365 * 24 * 3600
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Who may use the server.

    Attributes:
        names: host names that the server answers to, in lower case, besides those of the loopback.
        token: every request must bring it; None where none is needed.
        cookie: name of the cookie that carries the token.
    """

    names: frozenset[str] = frozenset()
    token: str | None = None
    cookie: str = "refiner_token"

    def answers_to(self, host: str) -> bool:
        """Whether a Host header names this server: the loopback, one of `names`, or with a token any IP address.

        IP addresses are safe: another site can make its host name point here, but not an IP address.
        """
        name = _name_of(host)
        if name in _LOCAL or name in self.names:
            return True
        return self.token is not None and _is_address(name)

    def has_token(self, given: str | None) -> bool:
        """Whether a token is the right one; true where none is needed."""
        return self.token is None or (given is not None and secrets.compare_digest(given.encode(), self.token.encode()))


class Guard:
    """ASGI middleware that lets through what `Access` allows.

    Args:
        app: the guarded application.
        access: who may use it.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or hand it on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope, Headers(scope=scope))
        await (refused or self._app)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._access.answers_to(host):
            return refusal(MISDIRECTED, "This server has another name; open the address that it printed at its start.")
        if scope["method"] not in _SAFE and _is_foreign(headers, host):
            return refusal(FORBIDDEN, "The request comes from another site's page; only this server's own may send it.")
        return self._refused_token(scope, headers)

    def _refused_token(self, scope: Scope, headers: Headers) -> Response | None:
        access = self._access
        if access.token is None or scope["path"] == "/healthz":
            return None
        carried = cookie_parser(headers.get("cookie", "")).get(access.cookie)
        bearer = headers.get("authorization", "").removeprefix("Bearer ").strip() or None
        if access.has_token(bearer) or access.has_token(carried):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["method"] == "GET" and scope["path"] == "/" and access.has_token(query.get("token", [None])[0]):
            del query["token"]  # so that it does not stay in the address bar
            rest = urlencode(query, doseq=True)
            welcome = RedirectResponse(f"./?{rest}" if rest else "./", 303)
            welcome.set_cookie(access.cookie, str(access.token), _YEAR, httponly=True, samesite="strict")
            return welcome
        return refusal(
            UNAUTHORIZED, "A token is needed: open the whole address that the server printed, or send it as a Bearer."
        )


def _is_foreign(headers: Headers, host: str) -> bool:
    """Whether a browser sent the request for another site's page; programs send neither of these headers."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != host.lower()


def _name_of(host: str) -> str:
    """The name in a Host header, without its port and in lower case; empty where the header is not valid."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
