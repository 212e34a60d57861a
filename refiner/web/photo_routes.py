"""Routes of photos: taken in, listed, described and forgotten."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from refiner.images.formats import by_suffix, writable
from refiner.images.masks import read_mask
from refiner.images.reading import read_rgb
from refiner.images.screen import as_jpeg, resized
from refiner.images.writing import default_suffix
from refiner.web.asking import receive_file, told_size
from refiner.web.mask_routes import FOREVER, keep_mask
from refiner.web.problems import CONFLICT, NOT_FOUND, Problem
from refiner.web.service import EXAMPLES, example_files, photo_dict
from refiner.web.store import SCREEN_QUALITY
from refiner.web.visitors import owner_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from refiner.web.records import Record
    from refiner.web.service import Service

_CARD = 192  # pixels


class PhotoRoutes:
    """Routes of photos.

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
            Route("/api/photos", self.photos, methods=["GET"]),
            Route("/api/photos", self.upload, methods=["POST"]),
            Route("/api/examples/{name}", self.example, methods=["POST"]),
            Route("/api/examples/{name}", self.example_picture, methods=["GET"]),
            Route(photo, self.photo, methods=["GET"]),
            Route(photo, self.remove, methods=["DELETE"]),
            Route(f"{photo}/formats", self.formats, methods=["GET"]),
        ]

    async def photos(self, request: Request) -> Response:
        """The visitor's photos."""
        records = self._store.photos_of(owner_of(request))
        return JSONResponse([photo_dict(self._service, record) for record in records])

    async def upload(self, request: Request) -> Response:
        """Take in a photo: its bytes are the body."""
        owner, limit = owner_of(request), self._service.limits.upload_bytes
        self._store.check_photos(owner)
        size = told_size(request, limit)
        await run_in_threadpool(self._store.reserve, size)
        file = self._store.incoming()
        try:
            await receive_file(request, file, limit)
        finally:
            self._store.release(size)
        record = await run_in_threadpool(self._store.add, file, request.query_params.get("name", "photo"), owner)
        return JSONResponse(photo_dict(self._service, record), 201)

    async def example(self, request: Request) -> Response:
        """Open an example; its mask, where it has one, is kept like one that the visitor loads from a file."""
        files = _example(request)
        owner = owner_of(request)
        self._store.check_photos(owner)

        def add() -> dict[str, object]:
            record = self.add_copy(files[0], owner)
            mask, loaded = files[1], None
            if mask is not None:
                hole = read_mask(mask, self._store.picture(record, 0))
                loaded = keep_mask(self._service, record, hole.mask)
            return {**photo_dict(self._service, record), "loaded": loaded}

        return JSONResponse(await run_in_threadpool(add), 201)

    async def example_picture(self, request: Request) -> Response:
        """A small picture of an example."""
        path, _ = _example(request)

        def picture() -> bytes:
            return as_jpeg(resized(np.asarray(read_rgb(path, enough=_CARD)), 2 * _CARD), SCREEN_QUALITY)

        return Response(await run_in_threadpool(picture), media_type="image/jpeg", headers=FOREVER)

    def add_copy(self, path: Path, owner: str, *, beside: bool = False) -> Record:
        """Add a copy of a file on this machine; with `beside`, results are saved beside that file."""
        file = self._store.incoming()
        with self._store.room(path.stat().st_size):
            try:
                shutil.copyfile(path, file)
            except BaseException:
                file.unlink(missing_ok=True)
                raise
        return self._store.add(file, path.name, owner, beside=path if beside else None)

    async def photo(self, request: Request) -> Response:
        """A photo, its rounds and its jobs."""
        return JSONResponse(photo_dict(self._service, self._service.photo_of(request)))

    async def remove(self, request: Request) -> Response:
        """Forget a photo."""
        record = self._service.photo_of(request)
        if self._service.queue.of(photo=record.id):
            raise Problem(CONFLICT, "The photo is being worked on; cancel that first.")
        await run_in_threadpool(self._store.remove, record)
        return Response(status_code=204)

    async def formats(self, request: Request) -> Response:
        """Formats that a result can be downloaded in, and what the photo would lose in each."""
        record = self._service.photo_of(request)
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


def _example(request: Request) -> tuple[Path, Path | None]:
    """The files of the example that is asked for."""
    example = next((known for known in EXAMPLES if known.name == request.path_params["name"]), None)
    files = None if example is None else example_files(example)
    if files is None:
        raise Problem(NOT_FOUND, "There is no such example.")
    return files
