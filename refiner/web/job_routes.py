"""Routes of plans and jobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from refiner.web.asking import receive_json, removal_of
from refiner.web.problems import NOT_FOUND, Problem
from refiner.web.visitors import owner_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from refiner.web.jobs import Job
    from refiner.web.records import Record
    from refiner.web.removal import Removal
    from refiner.web.service import Service


class JobRoutes:
    """Routes of plans and jobs.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._queue = service.queue

    def routes(self) -> list[Route]:
        """All routes of this class."""
        photo, job = "/api/photos/{photo}", "/api/jobs/{job}"
        return [
            Route(f"{photo}/plan", self.plan, methods=["POST"]),
            Route(f"{photo}/jobs", self.start, methods=["POST"]),
            Route(job, self.job, methods=["GET"]),
            Route(f"{job}/events", self.events, methods=["GET"]),
            Route(f"{job}/pictures/{{number:count}}", self.picture, methods=["GET"]),
            Route(f"{job}/stop", self.stop, methods=["POST"]),
            Route(f"{job}/cancel", self.cancel, methods=["POST"]),
        ]

    async def plan(self, request: Request) -> Response:
        """The plan of a removal, without the work."""
        record, removal = await self._asked(request)
        return JSONResponse(await run_in_threadpool(self._service.remover.plan, record, removal))

    async def start(self, request: Request) -> Response:
        """Put a removal into the queue."""
        record, removal = await self._asked(request)
        job = await run_in_threadpool(self._service.remover.job, record, owner_of(request), removal)
        return JSONResponse(self._queue.add(job).snapshot(), 202)

    async def job(self, request: Request) -> Response:
        """How far a job is."""
        return JSONResponse(self._job(request).snapshot())

    async def events(self, request: Request) -> Response:
        """How far a job is as server-sent events, one at each change until the job is over."""
        job = self._job(request)

        async def lines() -> AsyncIterator[str]:
            async for snapshot in job.follow():
                yield ": alive\n\n" if snapshot is None else f"data: {json.dumps(snapshot)}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def picture(self, request: Request) -> Response:
        """The result of one scale of a running job: the hole alone, transparent around it."""
        picture = self._job(request).shown.get(request.path_params["number"])
        if picture is None:
            raise Problem(NOT_FOUND, "The job has no such picture (any more).")
        return Response(picture, media_type="image/png")

    async def stop(self, request: Request) -> Response:
        """End a job with its best result so far."""
        job = self._job(request)
        self._queue.stop(job)
        return JSONResponse(job.snapshot(), 202)

    async def cancel(self, request: Request) -> Response:
        """End a job without a result."""
        job = self._job(request)
        self._queue.cancel(job)
        return JSONResponse(job.snapshot(), 202)

    def _job(self, request: Request) -> Job:
        return self._queue.get(request.path_params["job"], owner_of(request))

    async def _asked(self, request: Request) -> tuple[Record, Removal]:
        service = self._service
        record = service.photo_of(request)
        asked = await receive_json(request, service.limits.json_bytes)
        removal = await run_in_threadpool(removal_of, asked, service.store, record, service.limits, service.offer)
        return record, removal
