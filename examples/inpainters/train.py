"""How the examples' weights were made: L1 over the whole picture, Adam, a cosine schedule, crops of any photos.

    python examples/inpainters/train.py unet --data PHOTOS --steps 4000

They are weak: enough to see refinement work on a network other than LaMa, not to retouch photos with.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import torch
from safetensors.torch import save_file

from lama.training.config import DataConfig
from lama.training.data import Crops, batches, keep_photos
from refiner.evaluation.random_masks import load_mask_kind
from refiner.models.split import Encoding

HERE = Path(__file__).parent
ENCODINGS = {"unet": Encoding(low=-1, high=1, fill="mean"), "gated": Encoding(fill=1.0)}


@click.command()
@click.argument("name", type=click.Choice(["unet", "gated"]))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of photos.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("cache"), help="Folder for decoded photos.")
@click.option("--steps", default=4000, show_default=True)
def main(name: str, data: Path, cache: Path, steps: int) -> None:
    """Train an example's network and write its weights into its package."""
    sys.path.insert(0, str(HERE / name))
    if name == "unet":
        from refiner_unet import UNet as Network
    else:
        from refiner_gated import CoarseToFine as Network
    torch.manual_seed(0)
    config = DataConfig(masks=load_mask_kind("medium"), crop=128, batch=8, working_side=384, workers=0)
    photos = keep_photos(data, cache, side=config.working_side, least=config.crop, on_skip=print)
    network, encoding = Network().to(memory_format=torch.channels_last), ENCODINGS[name]
    adam = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    stream = batches(Crops(photos, config, seed=0), start=0, workers=0)
    for step in range(1, steps + 1):
        picture, hole = next(stream)
        x = encoding.encode(picture, hole).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            prediction = network(x)
        error = (encoding.decode(prediction.float()) - picture).abs()
        loss = error.mean() + 5 * (error * hole).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}  loss {loss.item():.4f}", flush=True)
    target = next((HERE / name).glob("refiner_*")) / "weights.safetensors"
    tensors = network.state_dict().items()
    save_file({k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in tensors}, target)
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
