"""How much the server takes from whoever it serves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on uploads, disk, memory and waiting work.

    Attributes:
        upload_bytes: of a photo's file.
        megapixels: of a photo.
        disk_bytes: that all photos and their results may take.
        picture_bytes: of decoded pictures kept in memory between requests.
        keep_seconds: a photo that nobody asked for during this time is removed.
        photos: of one visitor at a time.
        rounds: of one photo.
        marks: drawn in one mask, counted in points.
        jobs: that wait or run, of everybody together.
        jobs_each: of one visitor.
    """

    upload_bytes: int = 300_000_000
    megapixels: float = 150
    disk_bytes: int = 20_000_000_000
    picture_bytes: int = 1_000_000_000
    keep_seconds: float = 24 * 3600
    photos: int = 50
    rounds: int = 100
    marks: int = 200_000
    jobs: int = 100
    jobs_each: int = 20

    @property
    def json_bytes(self) -> int:
        """Of a request in JSON: points of a mask, each about twenty characters."""
        return 1_000_000 + 40 * self.marks
