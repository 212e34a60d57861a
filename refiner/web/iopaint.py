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
from refiner.web.problems import BAD_REQUEST, TOO_LARGE, UNPROCESSABLE, Problem, in_words
from refiner.web.visitors import owner_of

if TYPE_CHECKING:
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
            image, mask = (_decoded(asked, name) for name in ("image", "mask"))
            return await self._answer(request, asked, image, mask)
        except Problem as problem:
            return _error(problem.status, problem.line)
        except RefinerError as error:
            return _error(UNPROCESSABLE, in_words(error))

    async def _answer(self, request: Request, asked: dict[str, Any], image: bytes, mask: bytes) -> Response:
        photo = await run_in_threadpool(self._read, image, mask)
        choice = self._service.offer.choose({})
        if photo.hole.mask.any():
            job = Job(owner_of(request), choice.device, lambda job: self._fill(job, photo, choice))
            data, kind = await self._done(request, self._service.queue.add(job))
        else:
            data, kind = await run_in_threadpool(_encoded, photo, photo.picture)
        seed = asked.get("sd_seed", _SEED)
        return Response(data, media_type=f"image/{kind}", headers={"X-Seed": str(seed if seed != -1 else _SEED)})

    def _fill(self, job: Job, photo: Photo, choice: Choice) -> tuple[bytes, str]:
        job.check()
        return _encoded(photo, self._service.remover.fill(job, photo, choice).picture)

    async def _done(self, request: Request, job: Job) -> tuple[bytes, str]:
        """Wait for a job and give its result; cancel it where the client hangs up."""
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
        if job.result is None:
            raise Problem(BAD_REQUEST, "The work was canceled.")
        result: tuple[bytes, str] = job.result
        return result

    def _read(self, image: bytes, mask: bytes) -> Photo:
        files = [self._service.store.incoming() for _ in range(2)]
        try:
            for file, data in zip(files, (image, mask), strict=True):
                file.write_bytes(data)
            for file, name in zip(files, ("image", "mask"), strict=True):
                self._check_pixels(file, name)
            return _photo(*files)
        except RefinerError as error:
            line = in_words(error).replace(str(files[0]), "image").replace(str(files[1]), "mask")
            raise Problem(UNPROCESSABLE, line) from error
        finally:
            for file in files:
                file.unlink(missing_ok=True)

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


def _decoded(asked: dict[str, Any], name: str) -> bytes:
    """The bytes of one of the request's images: base64, with or without a data URL's head."""
    given = asked.get(name)
    if not isinstance(given, str) or not given:
        raise Problem(UNPROCESSABLE, f"{name}: expected an image file in base64.")
    try:
        return base64.b64decode(given.partition(",")[2] if given.startswith("data:") else given, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(UNPROCESSABLE, f"{name}: is not base64.") from None


def _encoded(photo: Photo, picture: Any) -> tuple[bytes, str]:
    kind = _OWN_FORMATS.get(photo.picture.format or "", "png")
    return encode(picture, Path(f"image.{kind}")), kind


def _error(status: int, line: str) -> JSONResponse:
    return JSONResponse({"error": "HTTPException", "detail": line, "body": "", "errors": line}, status)
