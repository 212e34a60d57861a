"""What operations make on shapes alone, told without PyTorch's own way, which imports its compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from refiner.engine import counted_bytes
from refiner.engine.counted_bytes import CountedBytes

LAST = torch.channels_last


def pictures() -> dict[str, torch.Tensor]:
    plain = torch.rand(2, 3, 10, 12)
    return {
        "plain": plain,
        "channels last": plain.contiguous(memory_format=LAST),
        "a part": torch.rand(2, 5, 14, 20)[:, 1:4, 2:12, 4:16],
        "a part, channels last": torch.rand(2, 5, 14, 20).contiguous(memory_format=LAST)[:, 1:4, 2:12, 4:16],
        "whole numbers": torch.ones(2, 3, 10, 12, dtype=torch.int32),
        "bools": plain > 0.5,
        "bytes": torch.ones(2, 3, 10, 12, dtype=torch.uint8),
        "half precision": plain.bfloat16(),
    }


aten = torch.ops.aten
OPERATIONS = {
    "+ a number": lambda x: x + 1.5,
    "1 - x": lambda x: 1 - x,
    "x + x": lambda x: x + x,
    "with a row": lambda x: x * torch.ones(12, device=x.device),
    "with a wider one": lambda x: x[:, :1] * torch.ones(2, 3, 10, 12, device=x.device, dtype=x.dtype),
    "compared": lambda x: x > 0,
    "where": lambda x: torch.where(x > 0, x, 0),
    "sigmoid": torch.sigmoid,
    "divided": lambda x: x / 3,
    "in place": lambda x: x.clone().add_(1).mul_(x),
    "clone": torch.clone,
    "clone, channels last": lambda x: x.clone(memory_format=LAST),
    "zeros like it": torch.zeros_like,
    "like it, in float64": lambda x: torch.empty_like(x, dtype=torch.float64),
    "joined": lambda x: torch.cat([x, x[:, :1]], dim=1),
    "joined below": lambda x: torch.cat([x, x], dim=-2),
    "stacked": lambda x: torch.stack([x, x], dim=1),
    "stacked at the end": lambda x: torch.stack([x, x], dim=-1),
    "any": torch.any,
    "any in a row": lambda x: torch.any(x, -1),
    "any in a channel": lambda x: torch.any(x, 1, keepdim=True),
    "sum": torch.sum,
    "sum of pictures": lambda x: x.sum(dim=(2, -1)),
    "sum of rows, kept": lambda x: x.sum(dim=(2, 3), keepdim=True),
    "mean": lambda x: x.float().mean(),
    "resized": lambda x: functional.interpolate(x.float(), size=(5, 7), mode="bilinear"),
    "padded": lambda x: functional.pad(x.float(), (1, 2, 3, 4), mode="reflect"),
    "padded by its edge": lambda x: functional.pad(x.float(), (1, 2, 3, 4), mode="replicate"),
    "largest": lambda x: functional.max_pool2d(x.float(), 5, 1, padding=2),
    "largest of each four": lambda x: functional.max_pool2d(x.float(), 2),
    "a slice's gradient": lambda x: torch.ops.aten.slice_backward(x[:, :, 1:4], x.shape, 2, 1, 4, 1),
    "convolved": lambda x: functional.conv2d(x.float(), torch.ones(4, 3, 3, 3, device=x.device), stride=2, padding=1),
    "convolved, transposed": lambda x: functional.conv_transpose2d(
        x.float(), torch.ones(3, 4, 3, 3, device=x.device), stride=2, padding=1, output_padding=1
    ),
}


@pytest.mark.parametrize("picture", list(pictures()))
@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_they_are_those_of_the_work(operation, picture) -> None:
    real, run = pictures()[picture], OPERATIONS[operation]
    try:
        expected = run(real)
    except RuntimeError:
        pytest.skip("not for this kind of picture")
    base = real if real._base is None else real._base
    meta = torch.empty_like(base, device="meta").as_strided(real.shape, real.stride(), real.storage_offset())
    with CountedBytes() as counted:
        for _ in range(2):  # found out, then remembered
            found = run(meta)
            assert (found.shape, found.dtype, found.is_meta) == (expected.shape, expected.dtype, True)
            assert found.untyped_storage().nbytes() == expected.untyped_storage().nbytes()
    last = (
        (expected.is_contiguous(memory_format=LAST), found.is_contiguous(memory_format=LAST)) if found.ndim == 4 else ()
    )
    assert not last or last[0] == last[1] or "convolved" in operation, "a library chooses the layout of those"
    assert counted.peak >= found.untyped_storage().nbytes()


def test_what_is_freed_no_longer_counts() -> None:
    with CountedBytes() as counted:
        x = torch.empty(1000, device="meta")
        for _ in range(5):
            x = x + 1
        assert counted.peak == 2 * 4000
        del x
        torch.empty(500, device="meta")
    assert counted.peak == 2 * 4000


def test_operators_of_ours_count_what_they_take_inside_each_time() -> None:
    grad, bits = torch.empty(1, 4, 8, 8, device="meta"), torch.empty(32, dtype=torch.uint8, device="meta")
    with CountedBytes() as counted:
        first = torch.ops.refiner.ungate(grad, bits, 0.0)
        alone = counted.peak
        second = torch.ops.refiner.ungate(grad, bits, 0.0)
    assert alone > first.nbytes, "bools beside it"
    assert counted.peak == alone + second.nbytes


def test_a_tensor_with_data_is_not_told_by_its_shape() -> None:
    """Its values may decide what an operation makes."""
    assert counted_bytes._key(aten.index.Tensor, (torch.empty(3, device="meta"), [torch.ones(3).bool()]), {}) is None
    assert counted_bytes._key(aten.view.default, (torch.empty(3, device="meta"), [3]), {}) is None, (
        "no memory of its own"
    )


FIRST = """
import sys, torch
from refiner import Settings, load_model, refine

image, mask = torch.rand(1, 3, 700, 160), torch.zeros(1, 1, 700, 160)
mask[..., 60:90, 60:90] = 1
settings = Settings(detail="features", steps=2, min_side=64, max_scales=2, windows="off", memory="2GB")
plan = refine(load_model("lama-small"), image, mask, settings).plan
assert plan.bytes is not None and plan.strip_height == 256
print("torch._dynamo" in sys.modules)
"""


def test_a_refinement_does_without_pytorchs_compiler() -> None:
    """Its import takes a processor more than a second, in the first call of each process."""
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
