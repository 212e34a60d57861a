"""Why a request is refused: a status code and one line for the person who asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from refiner.errors import BudgetError, Message, Option, RefinerError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, TOO_LARGE, UNPROCESSABLE = 400, 403, 404, 409, 413, 422
TOO_MANY, UNAUTHORIZED, FULL, MISDIRECTED, UNAVAILABLE = 429, 401, 507, 421, 503
_WORDS = {"feather": "Feather", "dilate": "Grow", "memory": "--memory", "windows": "Windows", "device": "Device"}


class Problem(Exception):  # noqa: N818  most are no fault of the program
    """A request that cannot be answered as asked.

    Args:
        status: the HTTP status code.
        line: what is wrong, what was expected, what to do.
    """

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line


def in_words(error: RefinerError | Message) -> str:
    """An error of the engine in one line, with options named as on the page."""
    message = error.message if isinstance(error, RefinerError) else error
    return message.spelled(_spelled)


def _spelled(option: Option) -> str:
    name = _WORDS.get(option.name, option.name.replace("_", " "))
    return name if option.value is None else f"{name} {option.value}"


async def answer(_: Request, error: Exception) -> Response:
    """The answer to a request that raised an exception: JSON with one line."""
    if isinstance(error, Problem):
        return refusal(error.status, error.line)
    if isinstance(error, RefinerError):
        return refusal(FULL if isinstance(error, BudgetError) else UNPROCESSABLE, in_words(error))
    return refusal(int(getattr(error, "status_code", 500)), str(getattr(error, "detail", "The server failed.")))


def refusal(status: int, line: str) -> JSONResponse:
    """An error as the API gives it: JSON with the line under `error`."""
    return JSONResponse({"error": line}, status)
