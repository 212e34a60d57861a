"""The ASGI application: all routes behind the guard, the warm-up, and the removal of expired photos."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from refiner import __version__
from refiner.errors import RefinerError
from refiner.files import make_folder
from refiner.memory import trim
from refiner.web.guard import Guard
from refiner.web.iopaint import IOPaintRoutes
from refiner.web.job_routes import JobRoutes
from refiner.web.jobs import Job
from refiner.web.mask_routes import MaskRoutes
from refiner.web.offer import Offer
from refiner.web.openapi import description
from refiner.web.pace import Pace
from refiner.web.patience import Patience
from refiner.web.photo_routes import PhotoRoutes
from refiner.web.problems import Problem, answer
from refiner.web.queues import Queue
from refiner.web.removal import Remover
from refiner.web.round_routes import TILE, RoundRoutes
from refiner.web.segmenter import Segmenter
from refiner.web.service import EXAMPLES, Service, example_files
from refiner.web.snap import can_snap
from refiner.web.store import PREVIEW, Store
from refiner.web.visitors import Visitors, owner_of
from refiner.web.workspace import Workspace, default_root

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from refiner.web.service import Config

_PAGE = Path(__file__).parent / "page"
_SWEEP = 60  # seconds between searches for what is no longer needed
_IDLE = 60  # seconds after which decoded pictures that nobody asks for are dropped
_PACE = "pace.json"  # in the folder of all servers: how long work takes here
_log = logging.getLogger(__name__)


def make_app(config: Config, *, warm_up: bool = True) -> Starlette:
    """The server as an ASGI application.

    Args:
        config: the choices of the person who starts the server.
        warm_up: load and try the default model at the start, so that the first visitor does not wait for it.

    Raises:
        RefinerError: a folder cannot be made, or a default is not known.
    """
    if config.output is not None:
        make_folder(config.output)
    offer = Offer(config.defaults)
    segmenter = None if config.segmenter is None else Segmenter(config.segmenter)
    workspace = Workspace(config.root or default_root())
    store = Store(workspace, config.limits)
    queue = Queue(config.limits)
    store.wanted = lambda: {job.about["photo"] for job in queue.of() if "photo" in job.about}
    pace = Pace(workspace.root / _PACE)
    remover = Remover(store, config.limits, config.output, pace)
    service = Service(config, store, queue, offer, remover, segmenter)
    front = _Front(service)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if warm_up:
            device = offer.choose({}).device
            service.queue.add(Job("", device, lambda job: remover.warm_up(job, offer), gives_way=True))
        sweeping = asyncio.create_task(_sweep(store))
        try:
            yield
        finally:
            sweeping.cancel()
            await run_in_threadpool(service.queue.close)
            workspace.close()

    app = Starlette(
        routes=[
            *front.routes(),
            *PhotoRoutes(service).routes(),
            *RoundRoutes(service).routes(),
            *MaskRoutes(service).routes(),
            *JobRoutes(service).routes(),
            *IOPaintRoutes(service).routes(),
            Mount("/page", StaticFiles(directory=_PAGE)),
        ],
        middleware=[Middleware(Guard, config.access), Middleware(Patience), Middleware(Visitors)],
        exception_handlers={
            Problem: answer,
            RefinerError: answer,
            OSError: answer,
            ClientDisconnect: _gone,
            404: answer,
            405: answer,
            500: answer,
        },
        lifespan=lifespan,
    )
    app.state.service = service
    app.state.workspace = workspace
    return app


class _Front:
    """Routes of the page, of the API's description and of the server's configuration."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """All routes of this class."""
        return [
            Route("/", self.page),
            Route("/healthz", self.health),
            Route("/api", self.docs),
            Route("/api/openapi.json", self.openapi),
            Route("/api/config", self.config),
        ]

    async def page(self, request: Request) -> Response:
        """The page; with the printed key as `?open=`, the photo that the server was started with is opened first."""
        config, key = self._service.config, request.query_params.get("open")
        if config.photo is not None and config.open_key and key:
            if not secrets.compare_digest(key.encode(), config.open_key.encode()):
                return RedirectResponse("./", 303)
            routes = PhotoRoutes(self._service)
            beside = config.save_beside
            record = await run_in_threadpool(routes.add_copy, config.photo, owner_of(request), beside=beside)
            return RedirectResponse(f"./#{record.id}", 303)
        return FileResponse(_PAGE / "index.html")

    async def health(self, _: Request) -> Response:
        """Say that the server runs."""
        return JSONResponse({"status": "ok", "version": __version__})

    async def docs(self, _: Request) -> Response:
        """The API's description as a page."""
        return FileResponse(_PAGE / "api.html")

    async def openapi(self, _: Request) -> Response:
        """The API's description as OpenAPI."""
        return JSONResponse(description())

    async def config(self, _: Request) -> Response:
        """What the page needs to know before there is a photo."""
        service, config = self._service, self._service.config
        return JSONResponse(
            {
                "version": __version__,
                "tile": TILE,
                "preview": PREVIEW,
                "upload_bytes": config.limits.upload_bytes,
                "megapixels": config.limits.megapixels,
                "keep_seconds": config.limits.keep_seconds,
                "snap": can_snap(),
                "saves": config.output is not None,
                "examples": [example.name for example in EXAMPLES if example_files(example)],
                **service.offer.to_dict(),
            }
        )


async def _sweep(store: Store) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        await run_in_threadpool(sweep, store)


def sweep(store: Store) -> None:
    """Let go of what is no longer needed, and take over what killed servers left; a failure is told in the log."""
    for task in (store.expire, store.take_over, lambda: _drop_idle(store)):
        try:
            task()
        except Exception:  # noqa: BLE001, PERF203  whatever it was, the next minute must try again
            _log.exception("sweeping")


def _drop_idle(store: Store) -> None:
    if store.drop_idle(_IDLE):
        trim()


async def _gone(_: Request, __: Exception) -> Response:
    """An empty answer, as the client has hung up."""
    return Response(status_code=400)
