"""Routes of rounds: pictures and files of a photo after each removal, and other fills of the same hole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from refiner.images.formats import by_suffix, writable
from refiner.images.screen import as_jpeg, part_for_screen
from refiner.images.writing import default_suffix, encode
from refiner.web.mask_routes import FOREVER
from refiner.web.problems import CONFLICT, NOT_FOUND, TOO_MANY, UNPROCESSABLE, Problem
from refiner.web.removal import Removal
from refiner.web.service import photo_dict
from refiner.web.store import PREVIEW
from refiner.web.variants import MOST, another
from refiner.web.visitors import owner_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from refiner.web.jobs import Job
    from refiner.web.records import Record, Round
    from refiner.web.service import Service

TILE = 512  # pixels
_THUMBNAIL = 192


class _Count(Convertor[int]):
    """A number in a path; Starlette's own fails on one of thousands of digits."""

    regex = "[0-9]{1,9}"

    def convert(self, value: str) -> int:
        """Text as a number."""
        return int(value)

    def to_string(self, value: int) -> str:
        """A number as text."""
        return str(value)


register_url_convertor("count", _Count())


class RoundRoutes:
    """Routes of rounds.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store

    def routes(self) -> list[Route]:
        """All routes of this class."""
        made = "/api/photos/{photo}/rounds/{number:count}"
        return [
            Route(made, self.delete, methods=["DELETE"]),
            Route(f"{made}/another", self.another, methods=["POST"]),
            Route(f"{made}/preview", self.preview, methods=["GET"]),
            Route(f"{made}/thumbnail", self.thumbnail, methods=["GET"]),
            Route(f"{made}/around", self.around, methods=["GET"]),
            Route(f"{made}/tiles/{{column:count}}/{{row:count}}", self.tile, methods=["GET"]),
            Route(f"{made}/file", self.file, methods=["GET"]),
        ]

    async def delete(self, request: Request) -> Response:
        """Take a round out of the history; gives the photo as it is then."""
        record, made = self._asked(request)
        if any(job.about["parent"] == made.number for job in self._service.queue.of(photo=record.id)):
            raise Problem(CONFLICT, "The round is being worked on; cancel that first.")
        await run_in_threadpool(self._store.delete_round, record, made.number)
        return JSONResponse(photo_dict(self._service, record))

    async def another(self, request: Request) -> Response:
        """Put another fill of a round's hole into the queue."""
        record, made = self._asked(request)
        job = await run_in_threadpool(self._another, record, made, owner_of(request))
        return JSONResponse(self._service.queue.add(job).snapshot(), 202)

    async def preview(self, request: Request) -> Response:
        """A round in 8-bit sRGB, scaled down."""
        return await self._scaled(request, PREVIEW)

    async def thumbnail(self, request: Request) -> Response:
        """A small picture of a round."""
        return await self._scaled(request, _THUMBNAIL)

    async def around(self, request: Request) -> Response:
        """What a round changed and what surrounds it, small; the whole photo for round 0."""
        record, made = self._asked(request)
        path = await run_in_threadpool(self._store.around, record, made.number)
        return FileResponse(path, media_type="image/jpeg", headers=FOREVER, content_disposition_type="inline")

    async def tile(self, request: Request) -> Response:
        """A square part of a round at 1:1."""
        record, made = self._asked(request)
        left, top = TILE * request.path_params["column"], TILE * request.path_params["row"]
        height, width = record.size
        if left >= width or top >= height:
            raise Problem(NOT_FOUND, "The tile lies beyond the photo.")
        box = left, top, min(left + TILE, width), min(top + TILE, height)

        def tile() -> bytes:
            return as_jpeg(part_for_screen(self._store.picture(record, made.number), box))

        return Response(await run_in_threadpool(tile), media_type="image/jpeg", headers=FOREVER)

    async def file(self, request: Request) -> Response:
        """A round as a file, in the photo's own format or another; round 0 in its own is the uploaded file."""
        record, made = self._asked(request)
        number, own = made.number, default_suffix(Path(record.name))
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

    def _another(self, record: Record, made: Round, owner: str) -> Job:
        service, first = self._service, record.rounds[record.first_fill(made.number)]
        if first.mask is None or first.parent is None:
            raise Problem(CONFLICT, "The photo as it came has no other fill; remove something first.")
        fills = [other for other in record.rounds if record.first_fill(other.number) == first.number]
        coming = len(service.queue.of(photo=record.id, variant_of=first.number))
        if sum(not fill.gone for fill in fills) + coming >= MOST:
            raise Problem(TOO_MANY, f"There are {MOST} fills of this already; delete one first.")
        choice = service.offer.choose(first.asked)
        changes = another(choice.settings.seed, len(fills) + coming, copies=first.copied)
        asked = {**first.asked, "settings": {**first.asked.get("settings", {}), **changes}}
        mask = self._store.mask(record, first.mask)
        removal = Removal(
            first.parent, mask, first.grow, first.feather, service.offer.choose(asked), asked, first.number
        )
        return service.remover.job(record, owner, removal, first.mask)

    async def _scaled(self, request: Request, side: int) -> Response:
        record, made = self._asked(request)
        path = await run_in_threadpool(self._store.screen, record, made.number, side)
        return FileResponse(path, media_type="image/jpeg", headers=FOREVER, content_disposition_type="inline")

    def _asked(self, request: Request) -> tuple[Record, Round]:
        record = self._service.photo_of(request)
        return record, self._store.round_of(record, request.path_params["number"])
