"""Files of several pages: which of them a picture is, and turning to it. A frame of an animation is a page, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from refiner.errors import InputError, Option
from refiner.images.codecs.pillow import check_size

if TYPE_CHECKING:
    from PIL import Image

    from refiner.images.codecs.format import Format


@dataclass(frozen=True)
class Pages:
    """Which page of its file a picture is.

    Attributes:
        number: of the page, from 1.
        count: how many pages the file has; more than one.
        file: the file's bytes, from which a result gets the other pages; None where it cannot keep them.
        smaller: numbers of other pages that the file calls smaller copies of a picture.
    """

    number: int
    count: int
    file: bytes | None = None
    smaller: tuple[int, ...] = ()


def turn_to(image: Image.Image, kind: Format, page: int | None, name: str, *, choosable: bool) -> Pages | None:
    """Turn an image that was just opened to a page.

    Args:
        image: the image; it shows the page afterwards.
        kind: its format.
        page: which, from 1; None for the only one, or for the one that the format says is the picture.
        name: what messages call the file.
        choosable: whether the user can give a page; the message that there are several says so then.

    Returns:
        Which page of how many; None where the file has one.

    Raises:
        InputError: there is no such page, or there are several and none was given.
        Image.DecompressionBombError: the page has more pixels than can be opened safely.
    """
    count = 1 if kind.joint_frames else kind.count_pages(image)
    if page is None:
        if count > 1 and not kind.main_frame:
            choose = ("choose one by ", Option("page", "N"), f", from 1 to {count}.")
            advice = choose if choosable else ("save one of them as a file of its own.",)
            raise InputError(f"{name}: holds {count} frames or pages, expected a single picture; ", *advice)
        return Pages(image.tell() + 1, count) if count > 1 else None
    if not 1 <= page <= count:
        given = Option("page", str(page))
        if count == 1:
            raise InputError(f"{name}: holds a single picture, so ", given, " is none of its pages; leave it out.")
        raise InputError(f"{name}: holds {count} frames or pages, so ", given, f" is none; expected 1 to {count}.")
    if count == 1:
        return None
    kind.turn_page(image, page - 1)
    check_size(image)
    return Pages(page, count)
