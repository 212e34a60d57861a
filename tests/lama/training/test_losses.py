"""Every loss against a value worked out by hand."""

import math

import pytest
import torch

from lama.training.losses import (
    discriminator_adversarial,
    feature_distance,
    generator_adversarial,
    gradient_penalty,
    masked_l1,
    perceptual_distance,
)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_masked_l1_averages_over_all_pixels():
    prediction, target = torch.full((1, 3, 2, 2), 0.75), torch.full((1, 3, 2, 2), 0.25)
    where = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert masked_l1(prediction, target, where).item() == pytest.approx(0.5 / 4)


def test_generator_adversarial_is_softplus_of_minus_the_logit():
    logits = torch.tensor([[[[0.0, 2.0]]]])
    assert generator_adversarial(logits).item() == pytest.approx((math.log(2) + softplus(-2)) / 2)


def test_generator_is_pushed_towards_real_even_where_the_discriminator_is_sure():
    logits = torch.full((1, 1, 1, 1), -20.0, requires_grad=True)
    generator_adversarial(logits).backward()
    assert logits.grad.item() == pytest.approx(-1, abs=1e-6)  # does not saturate


def test_discriminator_takes_known_patches_of_a_fill_for_real():
    real = torch.full((1, 1, 1, 2), 3.0)
    fake = torch.tensor([[[[-1.0, 2.0]]]])
    hole = torch.zeros(1, 1, 8, 16)
    hole[..., :8] = 1  # the left patch
    expected = softplus(-3) + (softplus(-1) + softplus(-2)) / 2
    assert discriminator_adversarial(real, fake, hole).item() == pytest.approx(expected)


def test_discriminator_weighs_a_patch_by_its_share_of_hole():
    logits = torch.zeros(1, 1, 1, 1) + 1.0
    hole = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    expected = softplus(-1) + 0.25 * softplus(1) + 0.75 * softplus(-1)
    assert discriminator_adversarial(logits, logits, hole).item() == pytest.approx(expected)


def test_gradient_penalty_of_a_linear_discriminator_is_the_squared_norm_of_its_weights():
    weights = torch.arange(12.0).view(1, 3, 2, 2)
    real = torch.rand(5, 3, 2, 2, requires_grad=True)
    logits = (real * weights).flatten(1).sum(1).view(5, 1, 1, 1)
    assert gradient_penalty(logits, real).item() == pytest.approx(sum(i**2 for i in range(12)))


def test_gradient_penalty_trains_the_discriminator():
    weight = torch.tensor(2.0, requires_grad=True)
    real = torch.rand(1, 3, 2, 2, requires_grad=True)
    gradient_penalty((weight * real).sum().view(1, 1, 1, 1), real).backward()
    assert weight.grad.item() == pytest.approx(2 * 2 * 12)  # d/dw of 12 w^2


def test_feature_matching_averages_layers_and_perceptual_distance_sums_them():
    fake = [torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 2, 2)]
    real = [torch.full((1, 2, 4, 4), 2.0), torch.full((1, 4, 2, 2), 3.0)]
    assert feature_distance(fake, real).item() == pytest.approx((4 + 9) / 2)
    assert perceptual_distance(fake, real).item() == pytest.approx(4 + 9)
