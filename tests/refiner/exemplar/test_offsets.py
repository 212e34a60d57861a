"""At which offsets a photo repeats itself: found at half its size where it is large, and as exact as at its own."""

from __future__ import annotations

import pytest
import torch

from refiner.exemplar import level_count
from refiner.exemplar.offsets import dominant_offsets
from refiner.exemplar.palette import Palette
from refiner.exemplar.progress import unheard
from refiner.exemplar.views import Views

DOWN, RIGHT = 83, 101  # odd: at half the size no offset is a whole number of pixels


def tiled(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A tile repeated, as soft as a photo, and a hole in its middle."""
    rough = torch.rand(1, 3, DOWN + 4, RIGHT + 4, generator=torch.Generator().manual_seed(0))
    tile = torch.nn.functional.avg_pool2d(rough, 5, 1)[0]
    image = tile.repeat(1, -(-height // DOWN), -(-width // RIGHT))[:, :height, :width].contiguous()
    hole = torch.zeros(height, width, dtype=torch.bool)
    hole[height // 2 - 20 : height // 2 + 20, width // 2 - 25 : width // 2 + 25] = True
    return image, hole


@pytest.mark.parametrize("size", [(280, 340), (341, 467), (400, 520)])
def test_the_offsets_of_a_repeated_tile_are_found_to_the_pixel(size: tuple[int, int]) -> None:
    image, hole = tiled(*size)
    offsets = dominant_offsets(Palette(torch.where(hole, 0.5, image), hole, ~hole), hole, 0, unheard).tolist()
    assert offsets
    assert all(down % DOWN == 0 and right % RIGHT == 0 for down, right in offsets)


@pytest.mark.parametrize("width", [466, 467])
def test_what_a_large_picture_has_mirrored_is_found_to_the_pixel(width: int) -> None:
    image, hole = tiled(341, width)
    half = image[..., : width // 2]
    image = torch.cat([half, half[..., -1:], half.flip(2)] if width % 2 else [half, half.flip(2)], dim=2)
    views = Views(width + width // 8, mirrored=True)
    offsets = dominant_offsets(Palette(image, hole, ~hole, views), hole, 0, unheard)
    mirrored = offsets[offsets[:, 1] >= width].tolist()
    # A picture that is its own mirror image lies there as a whole; and so do its tiles, one or more beside it.
    assert mirrored
    beside = 2 * (views.span or 0) - width
    assert all(down % DOWN == 0 and (right - beside) % RIGHT == 0 for down, right in mirrored)


def test_few_known_patches_have_no_offsets() -> None:
    hole = torch.ones(400, 520, dtype=torch.bool)
    hole[:9, :9] = False
    palette = Palette(torch.zeros(3, 400, 520), hole, ~hole)
    assert dominant_offsets(palette, hole, 0, unheard).shape == (0, 2)


@pytest.mark.parametrize(
    ("size", "hole", "short_side"),
    [
        ((400, 600), 5_000, 400),
        ((450, 600), 5_000, 225),
        ((1440, 2560), 150_000, 360),
        ((1440, 2560), 350_000, 180),  # so many pixels would take too long at twice the size
        ((1600, 2560), 60_000, 400),
        ((2160, 3840), 400_000, 270),
        ((2560, 3840), 700_000, 320),
        ((2560, 3840), 1_240_000, 160),  # in so wide a hole pieces would go astray
        ((2000, 12_000), 50_000, 125),  # and so would so long a picture
        ((90, 90), 8_000, 90),
    ],
)
def test_copies_are_chosen_as_large_as_time_allows(size: tuple[int, int], hole: int, short_side: int) -> None:
    assert min(size) >> (level_count(*size, hole) - 1) == short_side


def test_half_a_palette_is_known_where_most_of_it_is_and_source_where_all_is() -> None:
    image = torch.rand(3, 11, 14, generator=torch.Generator().manual_seed(1))
    hole = torch.zeros(11, 14, dtype=torch.bool)
    hole[2, 2] = hole[4:6, 6:8] = True
    half = Palette(torch.where(hole, 9.0, image), hole, ~hole).halved()
    assert half.known.shape == (5, 7)
    assert (~half.known).nonzero().tolist() == [[2, 3]]
    assert (half.known & ~half.source).nonzero().tolist() == [[1, 1]]
    expected = (image[:, 2:4, 2:4].sum(dim=(1, 2)) - image[:, 2, 2]) / 3
    torch.testing.assert_close(half.image[:, 1, 1], expected)
