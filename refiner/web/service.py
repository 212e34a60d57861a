"""What all routes share, and photos and rounds as the API gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refiner.web.guard import Access
from refiner.web.limits import Limits
from refiner.web.offer import Defaults
from refiner.web.visitors import owner_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from refiner.web.offer import Offer
    from refiner.web.queues import Queue
    from refiner.web.records import Record
    from refiner.web.removal import Remover
    from refiner.web.segmenter import Segmenter
    from refiner.web.store import Store


@dataclass(frozen=True)
class Config:
    """The choices of the person who starts the server.

    Attributes:
        defaults: what a removal uses where a visitor chooses nothing.
        limits: how much the server accepts.
        access: who may use the server.
        root: folder for photos; None for the user's cache folder.
        output: folder where results are also written; None for none.
        photo: a file of this machine to open at once.
        save_beside: write that photo's results beside it.
        segmenter: the encoder of a model that selects objects by clicks; None to do so without one.
        open_key: key in the printed address that opens that photo.
    """

    defaults: Defaults = field(default_factory=Defaults)
    limits: Limits = field(default_factory=Limits)
    access: Access = field(default_factory=Access)
    root: Path | None = None
    output: Path | None = None
    photo: Path | None = None
    save_beside: bool = False
    segmenter: Path | None = None
    open_key: str | None = None


@dataclass(frozen=True)
class Service:
    """What all routes share."""

    config: Config
    store: Store
    queue: Queue
    offer: Offer
    remover: Remover
    segmenter: Segmenter | None = None

    def photo_of(self, request: Request) -> Record:
        """The photo in a request's path, if it is the visitor's."""
        return self.store.get(request.path_params["photo"], owner_of(request))

    @property
    def limits(self) -> Limits:
        """How much the server accepts."""
        return self.config.limits


@dataclass(frozen=True)
class Example:
    """A photo to try.

    Attributes:
        name: of the photo's file.
        mask: name of a mask's file that marks something in it; None for none.
    """

    name: str
    mask: str | None = None


EXAMPLES = (Example("otter.jpg", "otter_mask.png"), Example("kitten.jpg", "kitten_mask.png"))


def example_files(example: Example) -> tuple[Path, Path | None] | None:
    """An example's photo and mask, in the installed package or at the top of a source tree; None where missing."""
    package = Path(__file__).parents[1] / "examples"
    folder = package if package.is_dir() else Path(__file__).parents[2] / "examples"
    photo = folder / example.name
    mask = None if example.mask is None else folder / example.mask
    return (photo, mask) if photo.is_file() else None


def photo_dict(service: Service, record: Any) -> dict[str, Any]:
    """A photo as the API gives it."""
    height, width = record.size
    jobs = [job.snapshot() for job in service.queue.of(photo=record.id)]
    return {
        "id": record.id,
        "name": record.name,
        "width": width,
        "height": height,
        "mode": record.mode,
        "depth": record.depth,
        "format": record.format,
        "notes": record.notes,
        "rounds": [round_dict(made) for made in record.rounds if not made.gone],
        "jobs": jobs,
    }


def round_dict(made: Any) -> dict[str, Any]:
    """A round as the API gives it."""
    return {
        "number": made.number,
        "parent": made.parent,
        "mask": made.mask,
        "grow": made.grow,
        "feather": made.feather,
        "box": made.box,
        "seconds": made.seconds,
        "stopped": made.stopped,
        "saved": made.saved,
        "variant_of": made.variant_of,
        "faults": made.faults,
    }
