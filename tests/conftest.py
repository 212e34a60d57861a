"""What several tests share: the tiny golden LaMa, a synthetic photo, and a network to reason about."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Before PyTorch is imported, here and in the processes that tests start: tests run side by side, and threads of
# several processes that wait for the same cores slow each other down many times over.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from lama.weights import CHECKPOINTS
from refiner import ModelSpec

# Where there is no GPU, Triton's interpreter runs the kernels; Triton reads this when it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Benchmarks are not installed: they are found in the source tree, after all that is.
sys.path.append(str(Path(__file__).parents[1]))

GOLDEN = Path(__file__).parent / "golden" / "lama-tiny"


class Toy(nn.Module):
    """A convolutional inpainter with nested features: a list and a dict, as of a network with skips."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = ModelSpec(multiple=4, train_size=32)
        generator = torch.Generator().manual_seed(0)
        self.inward = nn.Conv2d(4, 6, 3, padding=1)
        self.down = nn.Conv2d(6, 8, 4, stride=4)
        self.up = nn.ConvTranspose2d(8, 6, 4, stride=4)
        self.out = nn.Conv2d(6, 3, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)

    def front(self, image: Tensor, mask: Tensor) -> dict[str, object]:
        skip = torch.relu(self.inward(torch.cat([image * (1 - mask), mask], dim=1)))
        return {"skips": [skip], "deep": torch.relu(self.down(skip))}

    def rear(self, features: dict[str, object]) -> Tensor:
        (skip,) = features["skips"]
        return torch.sigmoid(self.out(self.dropout(self.up(features["deep"]) + skip)))


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="session")
def tiny():
    """The golden LaMa in float32."""
    return CHECKPOINTS.open(GOLDEN)


@pytest.fixture
def scene() -> tuple[Tensor, Tensor]:
    """A smooth picture (1,3,67,90) with detail, and a hole of about a sixth of it."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 67), torch.linspace(0, 1, 90), indexing="ij")
    image = torch.stack([x, y, 0.5 + 0.4 * torch.sin(20 * x * y)])[None]
    mask = torch.zeros(1, 1, 67, 90)
    mask[..., 20:50, 25:60] = 1
    return image, mask


@pytest.fixture
def photo_files(tmp_path: Path) -> tuple[Path, Path]:
    """A 150 x 110 photo and its mask, as PNG files."""
    values = np.random.default_rng(0).integers(0, 256, (11, 15, 3), dtype=np.uint8)
    image = Image.fromarray(values).resize((150, 110), Image.Resampling.BICUBIC)
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).ellipse((40, 30, 100, 80), fill=255)
    paths = tmp_path / "photo.png", tmp_path / "mask.png"
    image.save(paths[0])
    mask.save(paths[1])
    return paths


@pytest.fixture
def serve(tmp_path: Path):
    """Starts servers of the page in this process; gives a client for each."""
    from web_server import Servers  # which skips where the extra is not installed

    servers = Servers(tmp_path)
    yield servers
    servers.close()


@pytest.fixture
def client(serve):
    """A client of a server of the page."""
    return serve()
