"""Files that `refiner inpaint` writes, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from refiner.errors import InputError
from refiner.files import check_target
from refiner.images.writing import check_fits, default_suffix, format_of, takes_quality

if TYPE_CHECKING:
    from pathlib import Path

    from refiner.photo import Photo


def default_output(image: Path) -> Path:
    """Where a result goes by default: beside the photo, in the photo's format where that can be written."""
    return image.with_name(f"{image.stem}_refined{default_suffix(image)}")


@dataclass(frozen=True)
class Targets:
    """What to write: the result and the extras.

    Attributes:
        output: the filled photo.
        compare: picture of hole, plain and refined side by side.
        report: JSON of what was done.
        scales: folder for the result of every scale.
        quality: of the filled photo, where its format has a quality.
    """

    output: Path
    compare: Path | None = None
    report: Path | None = None
    scales: Path | None = None
    quality: int | None = None

    def check(self, *, overwrite: bool) -> None:
        """Refuse targets that could not be written.

        Raises:
            InputError: a file exists, is named twice or has no known format; or the folder of the scales is in use.
        """
        files = [path for path in (self.output, self.compare, self.report) if path is not None]
        for path in files:
            check_target(path, overwrite=overwrite)
        named = [*files, *([] if self.scales is None else [self.scales])]
        resolved = [path.resolve() for path in named]
        if len(set(resolved)) < len(resolved):
            twice = next(path for path in reversed(named) if resolved.count(path.resolve()) > 1)
            raise InputError(f"{twice}: named for two outputs; give each its own file.")
        if self.scales is not None and self.scales.resolve() in [path.parent for path in resolved]:
            raise InputError(f"{self.scales}: is for the scales alone; put the other files elsewhere.")
        for name in {self.output, self.compare or self.output}:
            format_of(name)
        if self.quality is not None and not takes_quality(self.output):
            raise InputError(f"--quality: {format_of(self.output)} has none; leave it out, or use a name in .jpg.")
        if self.scales is not None:
            _check_scales(self.scales, overwrite=overwrite)

    def check_fit(self, photo: Photo) -> None:
        """Refuse formats that could not hold the result.

        Raises:
            InputError: see `refiner.images.writing.check_fits`.
        """
        photo.check_fits(self.output)
        if self.compare is not None:
            height, width = photo.picture.size
            check_fits(self.compare, "RGB", (height, 3 * width))


def _check_scales(folder: Path, *, overwrite: bool) -> None:
    if not folder.is_dir():
        check_target(folder, overwrite=False)
        return
    check_target(folder / "scale", overwrite=overwrite)
    if any(folder.iterdir()) and not overwrite:
        raise InputError(f"{folder}: is not empty; choose another folder or add --overwrite.")
