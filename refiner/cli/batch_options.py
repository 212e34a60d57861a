"""Options of `refiner batch`, in groups."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refiner.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from refiner.images.masks import MaskOptions

_PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class Selection:
    """Which photos to fill, and where their masks are; the fields are arguments of `find_pairs`."""

    masks: Path | None
    mask: Path | None
    glob: str
    recursive: bool

    def check(self, options: MaskOptions) -> None:
        """Refuse masks from two places."""
        if (self.masks is not None) + (self.mask is not None) + options.from_alpha > 1:
            raise InputError("--masks, --mask and --mask-from-alpha: give one of them.")

    def arguments(self) -> dict[str, Any]:
        """The arguments for `find_pairs`, with absolute paths."""
        return {name: value.absolute() if isinstance(value, Path) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Restart:
    """What to do about results that are there already."""

    dry_run: bool
    resume: bool
    overwrite: bool

    def check(self) -> None:
        """Refuse to go on and to start over at once."""
        if self.resume and self.overwrite:
            raise InputError("--resume and --overwrite: one goes on, the other starts over; give one of them.")


@dataclass(frozen=True)
class Cluster:
    """Whether and how to work on a Ray cluster; all fields but `ray` are arguments of `ray_workers`."""

    ray: bool
    address: str | None
    workers: int | None
    gpus_per_worker: float

    def check(self) -> None:
        """Refuse options of Ray where it is not used."""
        if not self.ray and (self.address is not None or self.workers is not None or self.gpus_per_worker):
            raise InputError("--ray-address, --workers and --gpus-per-worker: without effect without --ray.")


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose photos and masks; the command gets them as `selection`, a `Selection`."""

    @click.option("--masks", type=_PATH, metavar="DIR", help="Masks by the same names in another folder.")
    @click.option("--mask", type=_PATH, metavar="FILE", help="One mask for all photos.")
    @click.option("--glob", default="*", show_default=True, metavar="PATTERN", help="Which photos, such as '*.jpg'.")
    @click.option("--recursive", is_flag=True, help="Also the folders below SOURCE.")
    @wraps(command)
    def with_options(
        *args: Any, masks: Path | None, mask: Path | None, glob: str, recursive: bool, **kwargs: Any
    ) -> Any:
        return command(*args, selection=Selection(masks, mask, glob, recursive), **kwargs)

    return with_options


def restart_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for results that are there already; the command gets them as `restart`, a `Restart`."""

    @click.option("--dry-run", is_flag=True, help="Only show what would be done.")
    @click.option("--resume", is_flag=True, help="Go on: skip photos that are done and unchanged.")
    @click.option("--overwrite", is_flag=True, help="Start over, and replace results in OUT.")
    @wraps(command)
    def with_options(*args: Any, dry_run: bool, resume: bool, overwrite: bool, **kwargs: Any) -> Any:
        return command(*args, restart=Restart(dry_run, resume, overwrite), **kwargs)

    return with_options


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of Ray; the command gets them as `cluster`, a `Cluster`."""

    @click.option("--ray", "ray", is_flag=True, help="On a Ray cluster, or several processes of this machine.")
    @click.option(
        "--ray-address", metavar="ADDRESS", help="Of a running cluster; 'auto' finds the one this machine is in."
    )
    @click.option("--workers", type=click.IntRange(1), metavar="N", help="Of Ray [default: by its GPUs or machines].")
    @click.option(
        "--gpus-per-worker", type=click.FloatRange(0), default=0, metavar="X", help="A fraction shares a GPU."
    )
    @wraps(command)
    def with_options(
        *args: Any, ray: bool, ray_address: str | None, workers: int | None, gpus_per_worker: float, **kwargs: Any
    ) -> Any:
        return command(*args, cluster=Cluster(ray, ray_address, workers, gpus_per_worker), **kwargs)

    return with_options
