"""How much the server accepts from its visitors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on uploads, disk, memory and waiting work.

    Attributes:
        upload_bytes: largest file of a photo.
        megapixels: largest photo.
        disk_bytes: most that all photos and their results may take on disk.
        picture_bytes: most that decoded pictures may take in memory between requests, one at least.
        keep_seconds: a photo that nobody asked for during this time is removed.
        photos: most photos of one visitor at a time.
        rounds: most rounds of one photo, those deleted included.
        marks: most points drawn in one mask.
        stamps: most other masks put into one.
        jobs: most jobs that wait or run, of all visitors together.
        jobs_each: most jobs that wait or run, of one visitor.
    """

    upload_bytes: int = 300_000_000
    megapixels: float = 150
    disk_bytes: int = 20_000_000_000
    picture_bytes: int = 400_000_000
    keep_seconds: float = 24 * 3600
    photos: int = 50
    rounds: int = 100
    marks: int = 200_000
    stamps: int = 50
    jobs: int = 100
    jobs_each: int = 20

    @property
    def json_bytes(self) -> int:
        """Largest request in JSON, most of which are the points of a mask at up to 40 bytes each."""
        return 1_000_000 + 40 * self.marks
