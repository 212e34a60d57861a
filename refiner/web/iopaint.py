"""`POST /api/v1/inpaint` as clients of IOPaint (github.com/Sanster/IOPaint) call it: base64 in JSON, an image back.

The request's fields for diffusion models are ignored. Errors have IOPaint's four keys.
"""

from __future__ import annotations

import base64
import binascii
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from refiner.errors import RefinerError
from refiner.images.masks import MaskOptions, read_mask
from refiner.images.reading import read_picture, read_size, read_stored
from refiner.images.writing import encode
from refiner.photo import Photo
from refiner.web.asking import receive_json
from refiner.web.jobs import Job
from refiner.web.problems import BAD_REQUEST, TOO_LARGE, UNPROCESSABLE, Problem, in_words, problem_of
from refiner.web.visitors import owner_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from refiner.web.offer import Choice
    from refiner.web.service import Service

_OWN_FORMATS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "BMP": "bmp", "TIFF": "tiff"}
_HALF_WHITE = 127  # mask values above it are hole, as in IOPaint
_MOST_BYTES = 300_000_000  # of a request, which is held in memory whole
_SEED = 42  # IOPaint's default; clients read the seed back


class IOPaintRoutes:
    """The route for IOPaint's clients.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """All routes of this class."""
        return [Route("/api/v1/inpaint", self.inpaint, methods=["POST"])]

    async def inpaint(self, request: Request) -> Response:
        """Fill the image where the mask is white, and give it back in its own format."""
        try:
            asked = await receive_json(request, min(_MOST_BYTES, 3 * self._service.limits.upload_bytes))
            seed = _seed(asked)
            files = [self._service.store.incoming() for _ in range(2)]
            try:
                return await self._answer(request, asked, files, seed)
            finally:
                for file in files:
                    file.unlink(missing_ok=True)
        except (Problem, RefinerError, OSError) as error:
            problem = problem_of(error)
            return _error(problem.status, problem.line)

    async def _answer(self, request: Request, asked: dict[str, Any], files: list[Path], seed: int) -> Response:
        """The answer; what it holds of the image goes with it, and the job keeps nothing."""
        store, choice = self._service.store, self._service.offer.choose({})
        # On disk until its turn comes: what waits in line takes no memory.
        images = [await run_in_threadpool(_decoded, asked, name) for name in ("image", "mask")]
        asked.clear()
        size = sum(map(len, images))
        await run_in_threadpool(store.reserve, size)
        try:
            for file, data in zip(files, images, strict=True):
                await run_in_threadpool(file.write_bytes, data)
        finally:
            store.release(size)
        del images, data
        await run_in_threadpool(self._check, files)
        made: list[tuple[bytes, str] | Problem] = []
        job = Job(owner_of(request), choice.device, lambda job: self._fill(job, files, choice, made))
        await self._done(request, self._service.queue.add(job))
        if isinstance(made[0], Problem):
            raise made[0]
        data, kind = made[0]
        return Response(data, media_type=f"image/{kind}", headers={"X-Seed": str(seed)})

    def _fill(self, job: Job, files: list[Path], choice: Choice, made: list[tuple[bytes, str] | Problem]) -> None:
        job.check()
        try:
            photo = _named(files, lambda: _photo(*files))
            filled = photo.picture
            if photo.hole.mask.any():
                filled = self._service.remover.fill(job, photo, choice).picture
            made.append(_encoded(photo, filled))
        except (Problem, RefinerError, OSError) as error:
            made.append(problem_of(error))

    async def _done(self, request: Request, job: Job) -> None:
        """Wait for a job; cancel it where the client hangs up."""
        checked = time.monotonic()
        try:
            async for _ in job.follow():
                if time.monotonic() > checked + 1 and await request.is_disconnected():
                    break
        finally:
            if not job.over:
                self._service.queue.cancel(job)
        if job.error is not None:
            raise Problem(UNPROCESSABLE, job.error)
        if job.state != "done":
            raise Problem(BAD_REQUEST, "The work was canceled.")

    def _check(self, files: list[Path]) -> None:
        for file, name in zip(files, ("image", "mask"), strict=True):
            self._check_pixels(file, name)

    def _check_pixels(self, file: Path, name: str) -> None:
        height, width = read_size(file)
        if height * width > self._service.limits.megapixels * 1e6:
            raise Problem(TOO_LARGE, f"{name}: this server takes up to {self._service.limits.megapixels:g} megapixels.")


def _photo(image: Path, mask: Path) -> Photo:
    picture = read_picture(image)
    height, width = picture.size
    drawn = read_stored(mask, "mask").planes.color.shape[:2]
    if drawn not in ((height, width), (width, height)):
        raise Problem(BAD_REQUEST, f"Image size({(height, width)}) and mask size({tuple(drawn)}) not match.")
    hole = read_mask(mask, picture, MaskOptions(threshold=_HALF_WHITE))
    return Photo(picture, hole)


def _named(files: list[Path], read: Callable[[], Photo]) -> Photo:
    """What is read; errors call the files by the request's names for them."""
    try:
        return read()
    except RefinerError as error:
        line = in_words(error).replace(str(files[0]), "image").replace(str(files[1]), "mask")
        raise Problem(UNPROCESSABLE, line) from error


def _seed(asked: dict[str, Any]) -> int:
    """The seed to answer with; it has no other effect."""
    seed = asked.get("sd_seed", _SEED)
    if not isinstance(seed, int) or isinstance(seed, bool) or not -1 <= seed < 2**63:
        raise Problem(UNPROCESSABLE, "sd_seed: expected a whole number from -1.")
    return seed if seed != -1 else _SEED


def _decoded(asked: dict[str, Any], name: str) -> bytes:
    """The bytes of one of the request's images: base64, with or without a data URL's head."""
    given = asked.get(name)
    if not isinstance(given, str) or not given:
        raise Problem(UNPROCESSABLE, f"{name}: expected an image file in base64.")
    text = given.partition(",")[2] if given.startswith("data:") else given
    try:
        return base64.b64decode("".join(text.split()), validate=True)  # mail and some programs break lines
    except (binascii.Error, ValueError):
        raise Problem(UNPROCESSABLE, f"{name}: is not base64.") from None


def _encoded(photo: Photo, picture: Any) -> tuple[bytes, str]:
    kind = _OWN_FORMATS.get(photo.picture.format or "", "png")
    return encode(picture, Path(f"image.{kind}")), kind


def _error(status: int, line: str) -> JSONResponse:
    return JSONResponse({"error": "HTTPException", "detail": line, "body": "", "errors": line}, status)
