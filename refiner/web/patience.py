"""Requests that are sent half, or ever more slowly, are ended: each holds a connection and perhaps a file."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from refiner.web.problems import TOO_SLOW, refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEAD = 10.0  # seconds for a request's line and headers
PAUSE = 15.0  # seconds between parts of a body
SLOWEST = 5_000  # bytes a second of a body, on average


class Patience:
    """ASGI middleware that ends requests whose body does not come.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, and answer it where its body is too slow."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        clock, answered = asyncio.get_running_loop().time, False
        started, came, whole = clock(), 0, False

        async def patiently() -> Message:
            nonlocal came, whole
            if whole:  # what is waited for now is the client's leaving
                return await receive()
            left = started + PAUSE + came / SLOWEST - clock()
            try:
                message = await asyncio.wait_for(receive(), max(min(PAUSE, left), 0))
            except asyncio.TimeoutError:
                raise _TooSlowError from None
            came += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, patiently, sending)
        except _TooSlowError:
            if not answered:
                line = f"The request stopped coming for {PAUSE:.0f} seconds, or came too slowly; send it again."
                answer = refusal(TOO_SLOW, line)
                answer.headers["connection"] = "close"
                await answer(scope, receive, send)


class _TooSlowError(Exception):
    pass


class PatientProtocol(H11Protocol):
    """Uvicorn's protocol that also closes connections on which no whole head of a request comes in time."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Called when somebody connects."""
        super().connection_made(transport)
        self._waiting = self.loop.call_later(HEAD, self._close_unless_asked)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection ends."""
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called with each part of what is sent."""
        super().data_received(data)
        if self._is_asked():
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None
        elif self._waiting is None:  # a further request on the same connection begins
            self._waiting = self.loop.call_later(HEAD, self._close_unless_asked)

    def _is_asked(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _close_unless_asked(self) -> None:
        self._waiting = None
        if not self._is_asked():
            self.transport.close()
