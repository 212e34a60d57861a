"""Routes of masks: kept, loaded, snapped, clicked together, grown to a shadow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from refiner.errors import RefinerError
from refiner.images.drawing import box_of
from refiner.images.masks import MaskOptions, read_mask
from refiner.images.reading import read_picture, read_rgb, read_size
from refiner.images.screen import as_png, part_of_mask, to_size
from refiner.web.asking import clicks_of, mask_of, receive_file, receive_json, told_size, whole_number
from refiner.web.clicked import Click, clicked
from refiner.web.problems import UNPROCESSABLE, Problem, in_words
from refiner.web.shadow import with_shadow
from refiner.web.snap import snapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from refiner.images.picture import Picture
    from refiner.images.planes import Mask, Pixels
    from refiner.web.records import Record
    from refiner.web.service import Service

FOREVER = {"cache-control": "private, max-age=86400, immutable"}  # the picture of an id never changes
_OVERLAY = 1536
_SAME_SHAPE = 0.01  # difference of aspects that rounding a size to pixels may make
_HALF_WHITE = 127  # brighter pixels of a mask file are hole


class MaskRoutes:
    """Routes of masks.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store

    def routes(self) -> list[Route]:
        """All routes of this class."""
        photo = "/api/photos/{photo}"
        return [
            Route(f"{photo}/masks", self.make_mask, methods=["POST"]),
            Route(f"{photo}/masks/{{mask}}", self.mask, methods=["GET"]),
            Route(f"{photo}/snap", self.snap, methods=["POST"]),
            Route(f"{photo}/select", self.select, methods=["POST"]),
            Route(f"{photo}/shadow", self.shadow, methods=["POST"]),
        ]

    async def make_mask(self, request: Request) -> Response:
        """Keep a mask, given as `marks` in JSON or as an image file; with `?fit`, a file of any shape is stretched."""
        record = self._service.photo_of(request)
        if "json" in request.headers.get("content-type", ""):
            asked = await receive_json(request, self._service.limits.json_bytes)
            return await self._answer(record, lambda: mask_of(asked, self._store, record, self._service.limits))
        limit, file = self._service.limits.upload_bytes, self._store.incoming()
        size = told_size(request, limit)
        await run_in_threadpool(self._store.reserve, size)
        try:
            await receive_file(request, file, limit)
            return await self._answer(record, lambda: self._read_mask(record, file, "fit" in request.query_params))
        finally:
            self._store.release(size)
            file.unlink(missing_ok=True)

    async def mask(self, request: Request) -> Response:
        """A mask as a PNG, white in the hole; with `?overlay`, a smaller PNG whose alpha is the mask."""
        record, name = self._service.photo_of(request), request.path_params["mask"]
        if "overlay" not in request.query_params:
            path = self._store.mask_path(record, name)
            return FileResponse(path, headers=FOREVER, filename=f"{Path(record.name).stem}_mask.png")

        def overlay() -> bytes:
            with self._store.drawing:
                mask = self._store.mask(record, name)
                height, width = mask.shape
                share = min(1.0, _OVERLAY / max(height, width))
                size = max(1, round(height * share)), max(1, round(width * share))
                covered = part_of_mask(mask, (0, 0, width, height), size)
            return as_png(np.full_like(covered, 255), covered)

        return Response(await run_in_threadpool(overlay), media_type="image/png", headers=FOREVER)

    async def snap(self, request: Request) -> Response:
        """The outline of the object under a scribble, as a mask."""
        return await self._proposed(request, snapped)

    async def select(self, request: Request) -> Response:
        """The object under clicks, as a mask."""
        record, number, asked = await self._asked_round(request)
        clicks = clicks_of(asked)

        def selected() -> Mask:
            pixels = _pixels(self._store.screen(record, number))
            share = pixels.shape[1] / record.size[1]
            small = [Click(click.x * share, click.y * share, click.plus) for click in clicks]
            model = self._service.segmenter
            found = clicked(pixels, small) if model is None else model.clicked((record.id, number), pixels, small)
            return _enlarged(found, record.size)

        return await self._answer(record, selected)

    async def shadow(self, request: Request) -> Response:
        """What is marked, and the shadow beside it, as a mask."""
        record, number, asked = await self._asked_round(request)

        def grown() -> Mask:
            marked = mask_of(asked, self._store, record, self._service.limits)
            pixels = _pixels(self._store.screen(record, number))
            small = to_size(marked, (pixels.shape[0], pixels.shape[1]), "nearest")
            return marked | _enlarged(with_shadow(pixels, small), record.size)

        return await self._answer(record, grown)

    async def _proposed(self, request: Request, propose: Callable[[Picture, Mask], Mask]) -> Response:
        """A mask made of a picture and of the marks on it."""
        record, number, asked = await self._asked_round(request)

        def proposed() -> Mask:
            marked = mask_of(asked, self._store, record, self._service.limits)
            return propose(self._store.picture(record, number), marked)

        return await self._answer(record, proposed)

    async def _asked_round(self, request: Request) -> tuple[Record, int, dict[str, Any]]:
        """The photo, the number of its round, and what else a request asks for."""
        record = self._service.photo_of(request)
        asked = await receive_json(request, self._service.limits.json_bytes)
        number = whole_number(asked, "round", record.last, 10**6)
        return record, self._store.round_of(record, number).number, asked

    async def _answer(self, record: Record, make: Callable[[], Mask]) -> Response:
        """Make a mask and keep it."""

        def kept() -> dict[str, object]:
            return keep_mask(self._service, record, make())

        return JSONResponse(await run_in_threadpool(kept), 201)

    def _read_mask(self, record: Record, file: Path, fit: bool) -> Mask:
        """Read a mask file, scaled to the photo; a file of another shape is refused, or stretched where asked for."""
        options = MaskOptions(threshold=_HALF_WHITE, resize=True)
        picture = self._store.picture(record, 0)
        try:
            if fit:
                drawn = to_size(np.asarray(read_picture(file).to_pil()), record.size, "linear")
                return read_mask(drawn, picture, options).mask
            return read_mask(file, picture, options).mask
        except RefinerError as error:
            kind = None if fit or _has_shape(read_size(file), record.size) else "shape"
            raise Problem(UNPROCESSABLE, in_words(error).replace(str(file), "The mask"), kind) from error


def keep_mask(service: Service, record: Record, mask: Mask) -> dict[str, object]:
    """Keep a mask; gives what the page needs to know of it.

    Raises:
        Problem: it is empty.
    """
    if not mask.any():
        raise Problem(UNPROCESSABLE, "The mask is empty; white marks what is to go.")
    return {"id": service.store.add_mask(record, mask), "box": box_of(mask), "share": float(mask.mean())}


def _pixels(path: Path) -> Pixels:
    """The pixels (h,w,3) of a JPEG of our own."""
    return np.asarray(read_rgb(path))


def _enlarged(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at a larger height and width, with smooth outlines."""
    return np.asarray(to_size(mask.astype(np.uint8) * 255, size, "linear") > _HALF_WHITE)


def _has_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether a file's size, upright or sideways, has the photo's shape; true where it has none, being no image."""
    if 0 in size:
        return True
    aspect = other[1] / other[0]
    return any(abs(width / height / aspect - 1) <= _SAME_SHAPE for height, width in (size, size[::-1]))
