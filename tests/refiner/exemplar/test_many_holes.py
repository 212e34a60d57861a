"""Holes by the hundred, and large ones: in time by their area, and heard to be stopped."""

from __future__ import annotations

import itertools
import time

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from refiner import Settings, StopRefinement, load_model, refine
from refiner.engine.pyramid import build_pyramid
from refiner.evaluation.no_reference import looks
from refiner.exemplar import Exemplar, Level

COPIES = Settings(detail="exemplar")


def photo(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    octaves = (torch.rand(1, 3, height // s + 1, width // s + 1, generator=generator) for s in (2, 6, 24))
    return sum(functional.interpolate(x, (height, width), mode="bilinear") for x in octaves) / 3


def specks(height: int, width: int, count: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    mask = torch.zeros(1, 1, height, width)
    for y, x in zip(*(torch.randint(side, n, (count,), generator=generator) for n in (height, width)), strict=True):
        mask[..., y - side : y, x - side : x] = 1
    return mask


@pytest.fixture(scope="module")
def model():
    return load_model("lama-small")


def test_a_picture_full_of_specks_is_filled_in_seconds(model) -> None:
    image, mask = photo(512, 512), specks(512, 512, 14_000, 2)
    assert 0.17 < mask.mean() < 0.23
    started = time.process_time()
    result = refine(model, image, mask, COPIES)
    assert time.process_time() - started < 30, "of two cores; more than a minute before"
    inside = mask.expand_as(image) > 0
    assert (result.image - image)[inside].abs().mean() < 0.06
    assert 0.7 < float(looks(result.image, mask > 0).rim) < 1.3


def test_time_follows_the_holes_area_and_not_their_number(model) -> None:
    def seconds(mask: torch.Tensor) -> float:
        started = time.process_time()
        refine(model, image, mask, COPIES)
        return time.process_time() - started

    image = photo(450, 600)
    few, many = specks(450, 600, 6, 45), specks(450, 600, 200, 8)
    assert 0.8 < float(few.mean() / many.mean()) < 1.3
    seconds(few)  # PyTorch is new to all of it
    assert seconds(many) < 3 * seconds(few)


@pytest.mark.parametrize("wish", ["stop", "cancel"])
@pytest.mark.parametrize("at", [0.1, 0.5, 0.85, 0.97])
def test_a_stop_is_heard_wherever_it_comes(model, wish, at) -> None:
    """At each part of the work: offsets, moves, mending, seams."""
    image, mask = photo(512, 512), specks(512, 512, 14_000, 2)
    asked = []

    class CanceledError(Exception):
        pass

    def progress(news) -> None:
        if news.scale_done >= at and not asked:
            asked.append(time.perf_counter())
            raise StopRefinement if wish == "stop" else CanceledError

    if wish == "cancel":
        with pytest.raises(CanceledError):
            refine(model, image, mask, COPIES, progress)
    else:
        result = refine(model, image, mask, COPIES, progress)
        assert result.stopped
        assert torch.equal(result.image[mask.expand_as(image) == 0], image[mask.expand_as(image) == 0])
    assert time.perf_counter() - asked[0] < 2, "0.5 s on a machine with nothing else to do"


def test_no_part_of_the_work_is_long_without_a_word(model) -> None:
    image, mask = photo(1000, 1300), torch.zeros(1, 1, 1000, 1300)
    mask[..., 200:700, 300:950] = 1
    told = [time.perf_counter()]
    shares = []

    def progress(news) -> None:
        told.append(time.perf_counter())
        shares.append((news.scale, news.scale_done))

    refine(model, image, mask, COPIES, progress)
    assert shares == sorted(shares)
    assert max(b - a for a, b in itertools.pairwise(told[1:])) < 2, "0.5 s where nothing else runs"


class Reads(TorchDispatchMode):
    """Counts values that are read from tensors, for which a GPU is waited for."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        return func(*args, **(kwargs or {}))


def test_the_solver_for_seams_seldom_reads_a_value() -> None:
    image, mask = photo(384, 384), specks(384, 384, 8, 40)
    levels = [Level(*level) for level in build_pyramid(image, mask > 0, 2)]
    exemplar = Exemplar(levels)
    for index in range(len(levels) - 1):
        exemplar.render(index)
    with Reads() as reads:
        exemplar.render(len(levels) - 1)
    assert reads.count < 400, "each iteration read one before"
