"""Kernels for GPUs against PyTorch's operations: on a GPU, or by Triton's interpreter where there is none."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refiner.frozen import borders, fused
from refiner.frozen.operators import reference_of

pytest.importorskip("triton", reason="Triton is not installed; it comes with PyTorch's builds for GPUs")

from refiner.frozen.gpu import launch
from refiner.frozen.gpu.proof import _kind
from refiner.frozen.gpu.samples import sample

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INF = float("inf")
DTYPES = {torch.float32: 2e-6, torch.float64: 1e-14, torch.bfloat16: 2e-2, torch.float16: 3e-3}
GATES = {"relu": (0.0, INF, 0.0), "relu6": (0.0, 6.0, 0.0), "hardtanh": (-0.3, 0.4, 0.0), "leaky": (0.0, INF, 0.2)}

cases = settings(max_examples=25 if DEVICE == "cpu" else 100, deadline=None, derandomize=True)
sizes = st.tuples(st.integers(1, 2), st.integers(1, 35), st.integers(1, 13), st.integers(1, 19))
dtypes = st.sampled_from(list(DTYPES))
layouts = st.sampled_from([torch.contiguous_format, torch.channels_last])
seeds = st.integers(0, 99)


def picture_of(size, dtype, layout, seed: int) -> Tensor:
    """Random, with values that lie on the bounds of gates, infinity and NaN."""
    x = 2 * torch.randn(size, generator=torch.Generator().manual_seed(seed))
    special = torch.tensor([0.0, -0.0, 6.0, -0.3, 0.4, INF, -INF, float("nan")])
    x.view(-1)[: x.numel() // 4] = special.repeat(-(-x.numel() // 8))[: x.numel() // 4]
    return x.to(DEVICE, dtype).contiguous(memory_format=layout)


def smooth(size, dtype, layout, seed: int) -> Tensor:
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return x.to(DEVICE, dtype).contiguous(memory_format=layout)


def check(found: Tensor, expected: Tensor, tolerance: float | None = None) -> None:
    assert found is not NotImplemented
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    tolerance = DTYPES[expected.dtype] if tolerance is None else tolerance
    largest = float(expected.nan_to_num(0, 0, 0).abs().max())
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


@cases
@given(size=sizes, dtype=dtypes, layout=layouts, seed=seeds, gate=st.sampled_from(list(GATES)), data=st.data())
def test_a_gate_is_the_same_to_the_bit(size, dtype, layout, seed, gate, data) -> None:
    x = picture_of(size, dtype, layout, seed)
    kind = data.draw(st.sampled_from([None, "alike", "channels of a larger one", "float32"]))
    other = None
    if kind is not None:
        channels = size[1] + 5 if kind == "channels of a larger one" else size[1]
        other = picture_of((size[0], channels, *size[2:]), torch.float32 if kind == "float32" else dtype, layout, 7)
        other = other[:, channels - size[1] :]
    expected = x.clone()
    bits = reference_of(fused.gate_)(expected, other, *GATES[gate])
    found = launch.gate_(x, other, *GATES[gate])
    if found is NotImplemented:  # channels of a larger picture that do not lie beside x
        assert kind == "channels of a larger one"
        assert size[0] > 1 or 1 in size
        return
    assert torch.equal(found, bits)
    torch.testing.assert_close(x, expected, rtol=0, atol=0, equal_nan=True)
    assert x.stride() == expected.stride()


@cases
@given(size=sizes, dtype=dtypes, layout=layouts, seed=seeds, slope=st.sampled_from([0.0, 0.2]))
def test_the_way_back_through_a_gate_is_the_same_to_the_bit(size, dtype, layout, seed, slope) -> None:
    grad = picture_of(size, dtype, layout, seed)
    bits = torch.randint(256, (-(-grad.numel() // 8),), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    expected = reference_of(fused.ungate)(grad, bits.to(DEVICE), slope)
    found = launch.ungate(grad, bits.to(DEVICE), slope)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert found.stride() == expected.stride()


borders_of = st.tuples(*[st.integers(0, 3)] * 4)


@cases
@given(size=sizes, dtype=dtypes, layout=layouts, seed=seeds, widths=borders_of, mode=st.sampled_from(["reflect", "replicate"]))
def test_padding_and_its_way_back(size, dtype, layout, seed, widths, mode) -> None:
    size = (*size[:2], size[2] + 3, size[3] + 3)
    x = smooth(size, dtype, layout, seed)
    expected = reference_of(borders.pad)(x, widths, mode)
    found = launch.pad(x, widths, mode)
    check(found, expected, 0)
    assert found.stride() == expected.stride()
    grad = smooth(expected.shape, dtype, layout, seed + 1)
    expected = reference_of(borders.unpad)(grad, widths, mode)
    check(launch.unpad(grad, widths, mode), expected)
    check(launch.unpad(grad.double(), widths, mode), reference_of(borders.unpad)(grad.double(), widths, mode))


@cases
@given(size=sizes, dtype=dtypes, layout=layouts, seed=seeds, adjoint=st.booleans())
def test_spectra_and_their_way_back(size, dtype, layout, seed, adjoint) -> None:
    x = smooth(size, dtype, layout, seed)
    expected = reference_of(fused.spectrum)(x, adjoint)
    found = launch.spectrum(x, adjoint)
    check(found, expected)
    assert found.stride() == expected.stride()
    # No spectrum of a real picture, as after a convolution; in whichever layout.
    stacked = smooth(expected.shape, dtype, layout, seed + 1)
    expected = reference_of(fused.picture)(stacked, size[3], adjoint)
    found = launch.picture(stacked, size[3], adjoint)
    check(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pictures_of_several_blocks_and_tiles(layout) -> None:
    """Sizes that no block divides, and channels of a larger picture."""
    x = smooth((1, 70, 37, 41), torch.float32, layout, 0)
    for widths, mode in (((3, 3, 3, 3), "reflect"), ((1, 2, 0, 3), "replicate")):
        check(launch.pad(x, widths, mode), reference_of(borders.pad)(x, widths, mode), 0)
        check(launch.unpad(x, widths, mode), reference_of(borders.unpad)(x, widths, mode))
        check(launch.pad(x[:, 3:40], widths, mode), reference_of(borders.pad)(x[:, 3:40], widths, mode), 0)
    check(launch.spectrum(x, adjoint=True), reference_of(fused.spectrum)(x, True))
    check(launch.picture(x, 81, adjoint=True), reference_of(fused.picture)(x, 81, True))
    other = smooth((1, 90, 37, 41), torch.float32, layout, 1)[:, 20:]
    expected = x.clone()
    bits = reference_of(fused.gate_)(expected, other, 0.0, INF, 0.0)
    assert torch.equal(launch.gate_(x, other, 0.0, INF, 0.0), bits)
    assert torch.equal(x, expected)


def test_what_kernels_are_not_made_for_is_left_to_pytorch() -> None:
    x = smooth((1, 4, 9, 9), torch.float32, torch.contiguous_format, 0)
    assert launch.gate_(x[..., 1:], None, 0.0, INF, 0.0) is NotImplemented
    assert launch.gate_(x, x.expand(1, 4, 9, 9)[:, :1], 0.0, INF, 0.0) is NotImplemented
    assert launch.gate_(x.to(torch.int32), None, 0.0, INF, 0.0) is NotImplemented
    assert launch.pad(x, (9, 0, 0, 0), "reflect") is NotImplemented, "PyTorch says what is wrong"
    assert launch.unpad(x, (4, 4, 4, 3), "replicate") is NotImplemented, "too many terms"
    huge = torch.empty(1, dtype=torch.float32, device="meta").expand(1, 64, 8192, 8192)
    assert launch.ungate(huge, huge, 0.0) is NotImplemented, "places that 32 bits do not count"


CALLS = {
    "gate_": lambda x: (x, x.clone(), 0.0, INF, 0.0),
    "ungate": lambda x: (x, torch.zeros(-(-x.numel() // 8), dtype=torch.uint8, device=DEVICE), 0.1),
    "pad": lambda x: (x, [3, 1, 3, 3], "reflect"),
    "unpad": lambda x: (x, [3, 1, 3, 3], "reflect"),
    "spectrum": lambda x: (x, True),
    "picture": lambda x: (x, 2 * x.shape[3] - 1, False),
}


@pytest.mark.parametrize("channels", [6, 32])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CALLS)
def test_samples_are_calls_of_the_same_kind(name, layout, dtype, channels) -> None:
    args = CALLS[name](smooth((1, channels, 24, 25), dtype, layout, 0))
    small = sample(name, args)
    assert _kind(name, small) == _kind(name, args)
    assert small[0].numel() < args[0].numel()
    assert getattr(launch, name)(*small) is not NotImplemented
