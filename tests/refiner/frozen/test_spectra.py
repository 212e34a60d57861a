"""The inverse FFT of spectra that are not symmetric, which `irfft2` leaves open."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor

from lama.weights import LAMA_SMALL
from refiner.frozen import FrozenGradients, inverse_rfft2


def any_spectrum(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, height, width // 2 + 1, dtype=torch.complex128, generator=generator)


def symmetrized(spectrum: Tensor, width: int) -> Tensor:
    """The first column, and the last of even widths, as the mean of both ends: (z_k + conj(z_-k)) / 2."""
    spectrum = spectrum.clone()
    for column in [0] if width % 2 else [0, -1]:
        ends = spectrum[..., column]
        mirrored = ends.flip(-1).roll(1, -1).conj()
        spectrum[..., column] = (ends + mirrored) / 2
    return spectrum


@examples(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["ortho", "forward", "backward", None]))
def test_it_is_the_inverse_of_the_symmetric_part(height, width, norm) -> None:
    spectrum = any_spectrum(height, width)
    before = spectrum.clone()
    found = inverse_rfft2(spectrum, (height, width), norm)
    expected = torch.fft.irfft2(symmetrized(spectrum, width), s=(height, width), norm=norm)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * height * width)
    assert torch.equal(spectrum, before), "not written to"


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 2)])
def test_a_pictures_own_spectrum_gives_the_picture(size) -> None:
    picture = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(inverse_rfft2(torch.fft.rfft2(picture), size), picture)


@pytest.mark.parametrize("size", [(3, 4), (4, 3)])
def test_gradients(size) -> None:
    spectrum = any_spectrum(*size)[:1, :1].requires_grad_()
    assert torch.autograd.gradcheck(lambda z: inverse_rfft2(z, size, "ortho"), spectrum)


@pytest.fixture
def strict(monkeypatch) -> list[tuple[int, ...]]:
    """A device that does not ignore what is not symmetric; gives the shapes of what it transformed."""
    seen, irfft = [], torch.fft.irfft

    def checked(rows: Tensor, n: int, **options) -> Tensor:
        seen.append(rows.shape)
        assert not rows[..., 0].imag.any(), "the first column has an imaginary part"
        assert n % 2 or not rows[..., -1].imag.any(), "the last column has an imaginary part"
        return irfft(rows, n=n, **options)

    def refused(*_: object, **__: object) -> None:
        pytest.fail("whatever this gives of a spectrum that is not symmetric depends on the device")

    monkeypatch.setattr(torch.fft, "irfft", checked)
    for name in ("irfft2", "irfftn"):
        monkeypatch.setattr(torch.fft, name, refused)
    return seen


@pytest.mark.parametrize("size", [(64, 96), (72, 88)])
@pytest.mark.parametrize("fused", [True, False])
def test_lama_asks_no_device_for_more_forward_and_backward(strict, fused, size) -> None:
    model = LAMA_SMALL()
    front, rear = (model.fused.front, model.fused.rear) if fused else (model.generator.front, model.generator.rear)
    model.generator.requires_grad_(requires_grad=False)
    with torch.no_grad():
        features = [leaf.clone().requires_grad_() for leaf in front(torch.rand(1, 4, *size))]
    with FrozenGradients():
        prediction = rear(tuple(features))
    forward = len(strict)
    assert forward > 0
    gradients = torch.autograd.grad(prediction.square().sum(), features)
    assert all(gradient.any() for gradient in gradients)
    assert len(strict) == 2 * forward, "the gradient of an FFT is an inverse one"


def test_other_networks_inverse_ffts_are_made_safe_too() -> None:
    """`irfft2` as a network calls it, within the mode."""
    spectrum = any_spectrum(6, 8)
    with FrozenGradients():
        found = torch.fft.irfft2(spectrum, norm="ortho")
    assert torch.equal(found, inverse_rfft2(spectrum, (6, 8), "ortho"))
