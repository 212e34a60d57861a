"""Why a request is refused: a status code and one line for the person who asked."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from refiner.errors import BudgetError, Message, Option, RefinerError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, TOO_LARGE, UNPROCESSABLE = 400, 403, 404, 409, 413, 422
TOO_MANY, UNAUTHORIZED, FULL, MISDIRECTED, UNAVAILABLE, TOO_SLOW = 429, 401, 507, 421, 503, 408
_WORDS = {"feather": "Feather", "dilate": "Grow", "memory": "--memory", "windows": "Windows", "device": "Device"}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_log = logging.getLogger(__name__)


class Problem(Exception):  # noqa: N818  most are no fault of the program
    """A request that cannot be answered as asked.

    Args:
        status: the HTTP status code.
        line: what is wrong, what was expected, what to do.
        kind: a word by which the page offers what to do; None for none.
    """

    def __init__(self, status: int, line: str, kind: str | None = None) -> None:
        super().__init__(line)
        self.status = status
        self.line = line
        self.kind = kind


def problem_of(error: Problem | RefinerError | OSError) -> Problem:
    """What to tell a visitor of an error: never a path of this machine."""
    if isinstance(error, Problem):
        return error
    trouble = error if isinstance(error, OSError) else error.__cause__
    if trouble is error or (isinstance(trouble, OSError) and trouble.errno is not None):  # else a decoder's word
        _log.error("%s", error)
        if getattr(trouble, "errno", None) in _FULL:
            return Problem(FULL, "The server's disk is full; nothing was changed. Delete photos here, or try later.")
        return Problem(UNAVAILABLE, "The server cannot use its files; nothing was changed. Its log says why.")
    assert isinstance(error, RefinerError)  # noqa: S101  for the type checker
    return Problem(FULL if isinstance(error, BudgetError) else UNPROCESSABLE, in_words(error))


def in_words(error: RefinerError | Message) -> str:
    """An error of the engine in one line, with options named as on the page."""
    message = error.message if isinstance(error, RefinerError) else error
    return message.spelled(_spelled)


def _spelled(option: Option) -> str:
    name = _WORDS.get(option.name, option.name.replace("_", " "))
    return name if option.value is None else f"{name} {option.value}"


async def answer(_: Request, error: Exception) -> Response:
    """The answer to a request that raised an exception: JSON with one line."""
    if isinstance(error, (Problem, RefinerError, OSError)):
        problem = problem_of(error)
        return refusal(problem.status, problem.line, problem.kind)
    return refusal(int(getattr(error, "status_code", 500)), str(getattr(error, "detail", "The server failed.")))


def refusal(status: int, line: str, kind: str | None = None) -> JSONResponse:
    """An error as the API gives it: JSON with the line under `error`, and under `kind` what the page can offer."""
    return JSONResponse({"error": line} if kind is None else {"error": line, "kind": kind}, status)
