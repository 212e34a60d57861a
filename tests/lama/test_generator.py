from __future__ import annotations

import pytest
import torch

from lama import Generator, GeneratorConfig, LamaInpainter
from lama.weights import LAMA_SMALL
from refiner import Inpainter, ModelError, Settings, refine


def count(config: GeneratorConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Generator(config).parameters())


def test_sizes_of_the_public_models() -> None:
    assert round(count(GeneratorConfig()) / 1e6) == 51  # Big LaMa
    assert round(count(GeneratorConfig(n_blocks=9)) / 1e6) == 27  # LaMa-Fourier


@pytest.mark.parametrize(
    "config",
    [
        GeneratorConfig(),
        GeneratorConfig(ngf=8, n_blocks=3, global_channels=48),
        GeneratorConfig(ngf=4, n_downsampling=2, n_blocks=1, global_channels=8),
    ],
)
def test_sizes_are_read_off_the_tensors(config) -> None:
    with torch.device("meta"):
        assert GeneratorConfig.from_tensors(Generator(config).state_dict()) == config


@pytest.fixture(scope="module")
def small() -> LamaInpainter:
    return LAMA_SMALL()


def test_the_embedded_model(small) -> None:
    assert isinstance(small, Inpainter)
    assert small.spec.train_size == 256
    assert small.spec.multiple == 8
    assert not any(parameter.requires_grad for parameter in small.parameters())
    assert not small.training


@pytest.mark.parametrize("size", [(64, 64), (40, 88), (16, 16)])
def test_shapes_ranges_and_the_cut(small, size) -> None:
    image, mask = torch.rand(2, 3, *size), (torch.rand(2, 1, *size) > 0.7).float()
    with torch.no_grad():
        local, glob = small.front(image, mask)
        prediction = small.rear((local, glob))
        whole = small.generator(torch.cat([image * (1 - mask), mask], dim=1))
    assert local.shape == (2, 64, size[0] // 8, size[1] // 8)
    assert glob.shape == (2, 192, size[0] // 8, size[1] // 8)
    assert prediction.shape == image.shape
    assert ((prediction >= 0) & (prediction <= 1)).all()
    torch.testing.assert_close(prediction, whole)


def test_what_lies_in_the_hole_is_not_seen(small) -> None:
    image, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 20:40, 20:40] = 1
    hidden = torch.where(mask > 0, torch.rand_like(image), image)
    with torch.no_grad():
        torch.testing.assert_close(small.front(image, mask), small.front(hidden, mask))


def test_every_pixel_depends_on_every_known_one(small) -> None:
    """The reach of the spectral branch: the far corner feels a change."""
    image, mask = torch.rand(1, 3, 256, 256), torch.zeros(1, 1, 256, 256)
    changed = image.clone()
    changed[..., :8, :8] = 1 - changed[..., :8, :8]
    with torch.no_grad():
        one, other = (small.rear(small.front(x, mask)) for x in (image, changed))
    assert (one - other)[..., -8:, -8:].abs().max() > 0


@pytest.mark.parametrize("split_block", [1, 3, 6])
def test_a_later_cut_predicts_the_same(small, split_block) -> None:
    image, mask = torch.rand(1, 3, 72, 64), (torch.rand(1, 1, 72, 64) > 0.7).float()
    late = LamaInpainter(small.generator, train_size=small.spec.train_size, split_block=split_block)
    with torch.no_grad():
        features = late.front(image, mask)
        assert torch.equal(late.rear(features), small.rear(small.front(image, mask)))
    assert [leaf.shape for leaf in features] == [(1, 64, 9, 8), (1, 192, 9, 8)]
    exact = late.double()
    with torch.no_grad():
        prediction = exact.rear(exact.front(image.double(), mask.double()))
    torch.testing.assert_close(prediction.float(), small.whole(image, mask))
    assert len(exact.spec.stages) == 6 - split_block + 1, "the rear's blocks and the decoder"


def test_a_later_cut_is_refined(small) -> None:
    late = LamaInpainter(small.generator, train_size=64, learning_rate=0.01, split_block=3)
    image, mask = torch.rand(1, 3, 128, 128), torch.zeros(1, 1, 128, 128)
    mask[..., 40:80, 40:90] = 1
    scale = refine(late, image, mask, Settings(detail="features", steps=3, precision="float32")).scales[-1]
    assert scale.loss_after < scale.loss_before


def test_a_cut_behind_the_last_block_is_refused(small) -> None:
    with pytest.raises(ModelError, match="split_block: expected a whole number from 0 to 6, got 7"):
        LamaInpainter(small.generator, split_block=7)
