"""Kernels for GPUs against PyTorch's operations: on a GPU, or by Triton's interpreter where there is none."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refiner.frozen import FrozenGradients, borders, functions, fused
from refiner.frozen.operators import reference_of

pytest.importorskip("triton", reason="Triton is not installed; it comes with PyTorch's builds for GPUs")

from refiner.frozen.gpu import launch
from refiner.frozen.gpu.proof import _kind, no_kernels
from refiner.frozen.gpu.samples import sample

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INF = float("inf")
DTYPES = {torch.float32: 2e-6, torch.float64: 1e-14, torch.bfloat16: 2e-2, torch.float16: 3e-3}
GATES = {"relu": (0.0, INF, 0.0), "relu6": (0.0, 6.0, 0.0), "hardtanh": (-0.3, 0.4, 0.0), "leaky": (0.0, INF, 0.2)}
# Exact in 16 bits, to which the interpreter cuts off where a GPU rounds.
COARSE = {"relu": (0.0, INF, 0.0), "relu6": (0.0, 6.0, 0.0), "hardtanh": (-0.25, 0.5, 0.0), "leaky": (0.0, INF, 0.25)}

cases = settings(max_examples=12 if DEVICE == "cpu" else 200, deadline=None, derandomize=True)
sizes = st.tuples(st.integers(1, 2), st.integers(1, 11), st.integers(1, 7), st.integers(1, 19))
dtypes = st.sampled_from(list(DTYPES))
layouts = st.sampled_from([torch.contiguous_format, torch.channels_last])
seeds = st.integers(0, 99)
modes = st.sampled_from(["reflect", "replicate"])


def picture_of(size, dtype, layout, seed: int) -> Tensor:
    """Random, with values that lie on the bounds of gates, infinity and NaN."""
    x = 2 * torch.randn(size, generator=torch.Generator().manual_seed(seed))
    if dtype.itemsize == 2:
        x = (4 * x).round() / 4
    special = torch.tensor([0.0, -0.0, 6.0, -0.25, -0.3, 0.4, INF, float("nan")])
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
    numbers = (COARSE if dtype.itemsize == 2 else GATES)[gate]
    expected = x.clone()
    bits = reference_of(fused.gate_)(expected, other, *numbers)
    found = launch.gate_(x, other, *numbers)
    if found is NotImplemented:  # channels of a larger picture that do not lie beside x
        assert kind == "channels of a larger one"
        assert size[0] > 1 or 1 in size
        return
    assert torch.equal(found, bits)
    torch.testing.assert_close(x, expected, rtol=0, atol=0, equal_nan=True)
    assert x.stride() == expected.stride()


@cases
@given(size=sizes, dtype=dtypes, layout=layouts, seed=seeds, slope=st.sampled_from([0.0, 0.25]))
def test_the_way_back_through_a_gate_is_the_same_to_the_bit(size, dtype, layout, seed, slope) -> None:
    grad = picture_of(size, dtype, layout, seed)
    bits = torch.randint(256, (-(-grad.numel() // 8),), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    expected = reference_of(fused.ungate)(grad, bits.to(DEVICE), slope)
    found = launch.ungate(grad, bits.to(DEVICE), slope)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert found.stride() == expected.stride()


borders_of = st.tuples(*[st.integers(0, 3)] * 4)


@cases
@given(
    size=sizes,
    dtype=dtypes,
    layout=layouts,
    seed=seeds,
    widths=borders_of,
    mode=st.sampled_from(["reflect", "replicate"]),
)
def test_padding_and_its_way_back(size, dtype, layout, seed, widths, mode) -> None:
    size = (size[0], min(size[1], 3), min(size[2], 3) + 3, size[3] + 3)
    x = smooth(size, dtype, layout, seed)
    expected = reference_of(borders.pad)(x, widths, mode)
    found = launch.pad(x, widths, mode)
    check(found, expected, 0)
    assert found.stride() == expected.stride()
    grad = smooth(expected.shape, dtype, layout, seed + 1)
    expected = reference_of(borders.unpad)(grad, widths, mode)
    check(launch.unpad(grad, widths, mode), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_padding_of_a_single_pixel(layout) -> None:
    """Which lies in either layout, whatever it is padded to."""
    grad, widths = smooth((2, 5, 4, 3), torch.float32, layout, 0), (1, 1, 2, 1)
    pixel = reference_of(borders.unpad)(grad, widths, "replicate")
    check(launch.unpad(grad, widths, "replicate"), pixel)
    check(launch.pad(pixel, widths, "replicate"), reference_of(borders.pad)(pixel, widths, "replicate"), 0)


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


@pytest.mark.parametrize(
    ("size", "layout"),
    [((1, 70, 5, 41), torch.channels_last), ((1, 1, 4, 1100), torch.contiguous_format)],
)
def test_pictures_of_several_blocks_and_tiles(size, layout) -> None:
    """Sizes that no block divides, and channels of a larger picture."""
    whole = smooth((size[0], size[1] + 4, *size[2:]), torch.float32, layout, 0)
    x = whole[:, 3 : size[1] + 3].clone(memory_format=layout)
    for widths, mode in (((3, 3, 3, 3), "reflect"), ((1, 2, 0, 3), "replicate")):
        for each in (x, whole[:, 3 : size[1] + 3]):
            check(launch.pad(each, widths, mode), reference_of(borders.pad)(each, widths, mode), 0)
        grad = smooth((*size[:2], size[2] + 6, size[3]), torch.float32, layout, 1)
        check(launch.unpad(grad, widths, mode), reference_of(borders.unpad)(grad, widths, mode))
    check(launch.spectrum(x, adjoint=True), reference_of(fused.spectrum)(x, True))
    stacked = smooth((size[0], 2 * size[1], *size[2:]), torch.float32, layout, 1)
    width = 2 * size[3] - 1
    check(launch.picture(stacked, width, adjoint=True), reference_of(fused.picture)(stacked, width, True))


def test_a_gate_of_several_blocks_and_a_sum_with_channels_of_a_larger_picture() -> None:
    x = smooth((1, 70, 9, 41), torch.float32, torch.channels_last, 0)
    other = smooth((1, 90, 9, 41), torch.float32, torch.channels_last, 1)[:, 20:]
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
    if channels == 6:
        assert getattr(launch, name)(*small) is not NotImplemented


@pytest.mark.parametrize(("capability", "dtype"), [(80, "float32"), (90, "bfloat16"), (90, "float64")])
def test_kernels_compile_for_gpus_and_access_memory_in_full_width(capability, dtype, tmp_path) -> None:
    """For Ampere and Hopper; the compiler comes with Triton and needs no GPU."""
    env = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(Path(__file__).with_name("compile_kernels.py")), str(capability), dtype]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    widest: dict[str, int] = {}
    for line in done.stdout.splitlines():
        name, width = line.split()
        widest[name] = max(widest.get(name, 0), int(width))
    assert widest == dict.fromkeys(("gate", "ungate", "pad", "unpad", "stack", "unstack", "last"), 16)


def test_lamas_gradient_by_kernels(tiny, monkeypatch) -> None:
    """All of an update's kernels together."""
    model = copy.deepcopy(tiny).to(DEVICE)
    random = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 32, 40, generator=random).to(DEVICE)
    mask = (torch.rand(1, 1, 32, 40, generator=random) > 0.7).float().to(DEVICE)

    def gradient() -> list[Tensor]:
        features = [feature.requires_grad_() for feature in model.front(image, mask)]
        with FrozenGradients():
            prediction = model.rear(tuple(features))
        weights = torch.cos(torch.arange(prediction.numel(), device=DEVICE)).reshape(prediction.shape)
        return [prediction.detach(), *torch.autograd.grad(prediction, features, weights)]

    with no_kernels():
        expected = gradient()
    used = []
    for name in CALLS:

        def launched(*args, name=name, **kwargs) -> Tensor:
            used.append(name)
            made = getattr(launch, name)(*args, **kwargs)
            assert made is not NotImplemented
            return made

        monkeypatch.setattr(functions, name, launched)
    for ours, theirs in zip(gradient(), expected, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
    assert set(used) == set(CALLS)
