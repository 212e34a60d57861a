"""Routes of photos, their rounds and their masks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from refiner.errors import RefinerError
from refiner.images.drawing import box_of
from refiner.images.formats import by_suffix, writable
from refiner.images.masks import MaskOptions, read_mask
from refiner.images.reading import read_rgb
from refiner.images.screen import as_jpeg, as_png, part_for_screen, part_of_mask, resized
from refiner.images.writing import default_suffix, encode
from refiner.web.asking import mask_of, receive_file, receive_json
from refiner.web.problems import NOT_FOUND, UNPROCESSABLE, Problem, in_words
from refiner.web.service import EXAMPLES, example_files, photo_dict
from refiner.web.snap import snapped
from refiner.web.store import PREVIEW, SCREEN_QUALITY
from refiner.web.visitors import owner_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from refiner.images.planes import Mask
    from refiner.web.records import Record
    from refiner.web.service import Service

TILE = 512  # pixels
_OVERLAY = 1536
_THUMBNAIL = 192
_FOREVER = {"cache-control": "private, max-age=86400, immutable"}  # the picture of an id never changes


class PhotoRoutes:
    """Routes of photos, their rounds and their masks.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store

    def routes(self) -> list[Route]:
        """All routes of this class."""
        photo, made = "/api/photos/{photo}", "/api/photos/{photo}/rounds/{number:int}"
        return [
            Route("/api/photos", self.photos, methods=["GET"]),
            Route("/api/photos", self.upload, methods=["POST"]),
            Route("/api/examples/{name}", self.example, methods=["POST"]),
            Route("/api/examples/{name}", self.example_picture, methods=["GET"]),
            Route(photo, self.photo, methods=["GET"]),
            Route(photo, self.remove, methods=["DELETE"]),
            Route(f"{photo}/formats", self.formats, methods=["GET"]),
            Route(f"{photo}/masks", self.make_mask, methods=["POST"]),
            Route(f"{photo}/masks/{{mask}}", self.mask, methods=["GET"]),
            Route(f"{photo}/snap", self.snap, methods=["POST"]),
            Route(f"{made}/preview", self.preview, methods=["GET"]),
            Route(f"{made}/thumbnail", self.thumbnail, methods=["GET"]),
            Route(f"{made}/tiles/{{column:int}}/{{row:int}}", self.tile, methods=["GET"]),
            Route(f"{made}/file", self.file, methods=["GET"]),
        ]

    async def photos(self, request: Request) -> Response:
        """The visitor's photos."""
        records = self._store.photos_of(owner_of(request))
        return JSONResponse([photo_dict(self._service, record) for record in records])

    async def upload(self, request: Request) -> Response:
        """Take in a photo: its bytes are the body."""
        owner = owner_of(request)
        size = request.headers.get("content-length", "0")
        await run_in_threadpool(self._store.check_room, owner, int(size) if size.isdecimal() else 0)
        file = self._store.incoming()
        await receive_file(request, file, self._service.limits.upload_bytes)
        record = await run_in_threadpool(self._store.add, file, request.query_params.get("name", "photo"), owner)
        return JSONResponse(photo_dict(self._service, record), 201)

    async def example(self, request: Request) -> Response:
        """Open an example; its mask, where it has one, is kept like one that the visitor loads from a file."""
        files = _example(request)
        owner = owner_of(request)
        await run_in_threadpool(self._store.check_room, owner, files[0].stat().st_size)

        def add() -> dict[str, object]:
            record = self.add_copy(files[0], owner)
            mask = files[1]
            loaded = None if mask is None else self._kept(record, read_mask(mask, self._store.picture(record, 0)).mask)
            return {**photo_dict(self._service, record), "loaded": loaded}

        return JSONResponse(await run_in_threadpool(add), 201)

    async def example_picture(self, request: Request) -> Response:
        """A small picture of an example."""
        path, _ = _example(request)

        def picture() -> bytes:
            return as_jpeg(resized(np.asarray(read_rgb(path, enough=_THUMBNAIL)), 2 * _THUMBNAIL), SCREEN_QUALITY)

        return Response(await run_in_threadpool(picture), media_type="image/jpeg", headers=_FOREVER)

    def add_copy(self, path: Path, owner: str, *, beside: bool = False) -> Record:
        """Add a copy of a file on this machine; with `beside`, results are saved beside that file."""
        file = self._store.incoming()
        shutil.copyfile(path, file)
        return self._store.add(file, path.name, owner, beside=path if beside else None)

    async def photo(self, request: Request) -> Response:
        """A photo, its rounds and its jobs."""
        return JSONResponse(photo_dict(self._service, self._asked(request)))

    async def remove(self, request: Request) -> Response:
        """Forget a photo."""
        await run_in_threadpool(self._store.remove, self._asked(request))
        return Response(status_code=204)

    async def formats(self, request: Request) -> Response:
        """Formats that a result can be downloaded in, and what the photo would lose in each."""
        record = self._asked(request)
        own = default_suffix(Path(record.name))
        suffixes = [own, *(kind.suffix for kind in writable() if own not in kind.suffixes)]
        losses = await run_in_threadpool(self._store.losses, record, suffixes)
        kinds = [by_suffix(suffix) for suffix in suffixes]
        return JSONResponse(
            [
                {"suffix": suffix, "name": kind.name if kind else suffix, "loses": losses[suffix]}
                for suffix, kind in zip(suffixes, kinds, strict=True)
            ]
        )

    async def make_mask(self, request: Request) -> Response:
        """Keep a mask, given as `marks` in JSON or as an image file."""
        record = self._asked(request)
        if "json" in request.headers.get("content-type", ""):
            asked = await receive_json(request, self._service.limits.json_bytes)
            mask = await run_in_threadpool(mask_of, asked, self._store, record, self._service.limits)
            return JSONResponse(await run_in_threadpool(self._kept, record, mask), 201)
        file = self._store.incoming()
        await receive_file(request, file, self._service.limits.upload_bytes)
        try:
            mask = await run_in_threadpool(self._read_mask, record, file)
        finally:
            file.unlink(missing_ok=True)
        return JSONResponse(await run_in_threadpool(self._kept, record, mask), 201)

    async def mask(self, request: Request) -> Response:
        """A mask as a PNG, white in the hole; with `?overlay`, a smaller PNG whose alpha is the mask."""
        record, name = self._asked(request), request.path_params["mask"]
        if "overlay" not in request.query_params:
            path = self._store.mask_path(record, name)
            return FileResponse(path, headers=_FOREVER, filename=f"{Path(record.name).stem}_mask.png")

        def overlay() -> bytes:
            mask = self._store.mask(record, name)
            height, width = mask.shape
            share = min(1.0, _OVERLAY / max(height, width))
            size = max(1, round(height * share)), max(1, round(width * share))
            covered = part_of_mask(mask, (0, 0, width, height), size)
            return as_png(np.full_like(covered, 255), covered)

        return Response(await run_in_threadpool(overlay), media_type="image/png", headers=_FOREVER)

    async def snap(self, request: Request) -> Response:
        """The outline of the object under a scribble, as a mask."""
        record = self._asked(request)
        asked = await receive_json(request, self._service.limits.json_bytes)
        number = self._number(record, asked.get("round"))

        def snap() -> dict[str, object]:
            scribble = mask_of(asked, self._store, record, self._service.limits)
            return self._kept(record, snapped(self._store.picture(record, number), scribble))

        return JSONResponse(await run_in_threadpool(snap), 201)

    async def preview(self, request: Request) -> Response:
        """A round in 8-bit sRGB, scaled down."""
        return await self._scaled(request, PREVIEW)

    async def thumbnail(self, request: Request) -> Response:
        """A small picture of a round, for the history."""
        return await self._scaled(request, _THUMBNAIL)

    async def tile(self, request: Request) -> Response:
        """A square part of a round at 1:1."""
        record, number = self._asked(request), self._asked_number(request)
        left, top = TILE * request.path_params["column"], TILE * request.path_params["row"]
        height, width = record.size
        if left >= width or top >= height:
            raise Problem(NOT_FOUND, "The tile lies beyond the photo.")
        box = left, top, min(left + TILE, width), min(top + TILE, height)

        def tile() -> bytes:
            return as_jpeg(part_for_screen(self._store.picture(record, number), box))

        return Response(await run_in_threadpool(tile), media_type="image/jpeg", headers=_FOREVER)

    async def file(self, request: Request) -> Response:
        """A round as a file, in the photo's own format or another; round 0 in its own is the uploaded file."""
        record, number = self._asked(request), self._asked_number(request)
        own = default_suffix(Path(record.name))
        suffix = request.query_params.get("suffix", own).lower()
        kind = by_suffix(suffix)
        if kind is None or kind not in writable():
            raise Problem(UNPROCESSABLE, f"{suffix[:20]}: expected one of {', '.join(k.suffix for k in writable())}.")
        stem = Path(record.name).stem
        if number == 0 and suffix == own:
            return FileResponse(self._store.original(record), filename=record.name)
        data = await run_in_threadpool(lambda: encode(self._store.picture(record, number), Path(f"{stem}{suffix}")))
        name = f"{stem}_refined{'' if number < 2 else number}{suffix}"  # noqa: PLR2004  round 1 needs no number
        plain = name.encode("ascii", "replace").decode().replace("?", "_")  # for clients that read only ASCII names
        disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"
        media = f"image/{kind.name.lower()}"
        return Response(data, media_type=media, headers={"content-disposition": disposition})

    async def _scaled(self, request: Request, side: int) -> Response:
        record, number = self._asked(request), self._asked_number(request)
        path = await run_in_threadpool(self._store.screen, record, number, side)
        return FileResponse(path, media_type="image/jpeg", headers=_FOREVER, content_disposition_type="inline")

    def _asked(self, request: Request) -> Record:
        return self._store.get(request.path_params["photo"], owner_of(request))

    def _asked_number(self, request: Request) -> int:
        return self._number(self._asked(request), request.path_params["number"])

    def _number(self, record: Record, number: object) -> int:
        if number is None:
            return len(record.rounds) - 1
        if not isinstance(number, int) or isinstance(number, bool):
            raise Problem(UNPROCESSABLE, "round: expected a number.")
        return self._store.round_of(record, number).number

    def _kept(self, record: Record, mask: Mask) -> dict[str, object]:
        if not mask.any():
            raise Problem(UNPROCESSABLE, "The mask is empty; white marks what is to go.")
        return {"id": self._store.add_mask(record, mask), "box": box_of(mask), "share": float(mask.mean())}

    def _read_mask(self, record: Record, file: Path) -> Mask:
        """Read a mask file, scaled to the photo where the aspect is the same; pixels more than half white are hole."""
        try:
            return read_mask(file, self._store.picture(record, 0), MaskOptions(threshold=127, resize=True)).mask
        except RefinerError as error:
            raise Problem(UNPROCESSABLE, in_words(error).replace(str(file), "The mask")) from error


def _example(request: Request) -> tuple[Path, Path | None]:
    """The files of the example that is asked for."""
    example = next((known for known in EXAMPLES if known.name == request.path_params["name"]), None)
    files = None if example is None else example_files(example)
    if files is None:
        raise Problem(NOT_FOUND, "There is no such example.")
    return files
