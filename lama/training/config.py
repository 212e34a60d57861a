"""The settings of a training run, read from a YAML file whose keys are the fields here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lama.generator import GeneratorConfig
from refiner.config_files import build, read_mapping
from refiner.errors import SettingsError
from refiner.evaluation.random_masks import MaskKind  # noqa: TC001  `build` needs the type when it reads a file

if TYPE_CHECKING:
    from pathlib import Path


_MAX_ZOOM = 64


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of the PatchGAN discriminator. The defaults are LaMa's."""

    ndf: int = 64  # channels of its first layer
    n_layers: int = 4  # layers after it; the first n-1 of them halve the picture


@dataclass(frozen=True)
class DataConfig:
    """The photos, crops and holes that the network is shown.

    Attributes:
        masks: kind of the holes drawn on crops.
        crop: side of a crop in pixels, a multiple of 8.
        batch: crops in a step.
        working_side: short side that photos are kept at; a crop may show a larger part of them, scaled down.
        max_zoom_out: side that a crop shows of a photo at most, in multiples of `crop` pixels.
        held_out: share of the photos kept back for evaluation, where no folder is given for that.
        workers: processes that prepare crops beside the training; 0 for none.
    """

    masks: MaskKind
    crop: int = 256
    batch: int = 10
    working_side: int = 512
    max_zoom_out: float = 2.0
    held_out: float = 0.05
    workers: int = 2


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses. The defaults are LaMa's.

    Attributes:
        known_l1: mean absolute error over the known pixels.
        hole_l1: mean absolute error over the hole. LaMa has none, since it blurs. A little steadies the colors of a
            short training.
        adversarial: non-saturating adversarial loss.
        feature_matching: distance of the discriminator's features.
        perceptual: high-receptive-field perceptual loss; needs its network's weights.
        gradient_penalty: R1 penalty of the discriminator.
        penalty_every: steps between penalties, each weighted by this number ("lazy").
        adversarial_from: share of the training before the discriminator comes in.
        adversarial_ramp: share of the training in which the adversarial weights then grow from 0 to full.
    """

    known_l1: float = 10.0
    hole_l1: float = 0.0
    adversarial: float = 10.0
    feature_matching: float = 100.0
    perceptual: float = 30.0
    gradient_penalty: float = 0.001
    penalty_every: int = 1
    adversarial_from: float = 0.0
    adversarial_ramp: float = 0.0


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights are updated. Learning rates and clipping are LaMa's.

    Attributes:
        generator_lr: Adam's highest learning rate for the generator.
        discriminator_lr: Adam's highest learning rate for the discriminator.
        betas: Adam's decay rates.
        warmup: share of the training in which learning rates grow from 0.
        final_lr: learning rate at the end of the cosine schedule, as a share of the highest.
        clip: largest norm of the generator's gradient.
        ema: decay of the average of weights that is evaluated and exported.
    """

    generator_lr: float = 0.001
    discriminator_lr: float = 0.0001
    betas: tuple[float, ...] = (0.9, 0.999)
    warmup: float = 0.0
    final_lr: float = 0.0
    clip: float = 1.0
    ema: float = 0.999


@dataclass(frozen=True)
class TrainingConfig:
    """A training run.

    Attributes:
        steps: length of the training, where no minutes are given.
        seed: of weights, crops and holes.
        precision: of convolutions: `auto`, `float32` or `bfloat16`.
        evaluate_every: steps between evaluations on held-out crops.
        evaluation_crops: how many held-out crops there are.
        save_every: steps between saved states.
    """

    data: DataConfig
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 1_000_000
    seed: int = 0
    precision: str = "auto"
    evaluate_every: int = 5000
    evaluation_crops: int = 128
    save_every: int = 1000

    def __post_init__(self) -> None:
        sizes = self.generator
        if min(sizes.ngf, sizes.n_downsampling, sizes.n_blocks) < 1 or min(sizes.channels) < 2:  # noqa: PLR2004
            raise SettingsError(
                "generator: expected ngf, n_downsampling and n_blocks from 1, and global_channels between 2 and "
                "ngf * 2 ** n_downsampling - 2."
            )
        multiple = 2**sizes.n_downsampling
        data, losses, optimizer = self.data, self.losses, self.optimizer
        checks = {
            f"data.crop: expected a multiple of {multiple} from {4 * multiple}": data.crop % multiple == 0
            and data.crop >= 4 * multiple,
            "data.working_side: expected at least data.crop": data.working_side >= data.crop,
            "data.batch: expected at least 1": data.batch >= 1,
            f"data.max_zoom_out: expected from 1 to {_MAX_ZOOM}": 1 <= data.max_zoom_out <= _MAX_ZOOM,
            "data.held_out: expected above 0 and below 1": 0 < data.held_out < 1,
            "data.workers: expected at least 0": data.workers >= 0,
            "losses: expected weights from 0": all(0 <= weight < math.inf for weight in vars(losses).values()),
            "losses.adversarial_from and adversarial_ramp: expected shares from 0 to 1": losses.adversarial_from <= 1
            and losses.adversarial_ramp <= 1,
            "discriminator.ndf and n_layers: expected at least 1": min(vars(self.discriminator).values()) >= 1,
            "losses.penalty_every: expected at least 1": losses.penalty_every >= 1,
            "optimizer.betas: expected two numbers from 0 to below 1": len(optimizer.betas) == 2  # noqa: PLR2004
            and all(0 <= beta < 1 for beta in optimizer.betas),
            "optimizer.generator_lr and discriminator_lr: expected above 0, at most 1": all(
                0 < rate <= 1 for rate in (optimizer.generator_lr, optimizer.discriminator_lr)
            ),
            "optimizer.warmup and final_lr: expected shares from 0 to 1": all(
                0 <= share <= 1 for share in (optimizer.warmup, optimizer.final_lr)
            ),
            "seed: expected from 0 to 2 ** 32 - 1": 0 <= self.seed < 1 << 32,
            "optimizer.ema: expected from 0 to below 1": 0 <= optimizer.ema < 1,
            "optimizer.clip: expected above 0": optimizer.clip > 0,
            "precision: expected auto, float32 or bfloat16": self.precision in ("auto", "float32", "bfloat16"),
            "steps, evaluate_every, save_every and evaluation_crops: expected at least 1": min(
                self.steps, self.evaluate_every, self.save_every, self.evaluation_crops
            )
            >= 1,
        }
        for what, holds in checks.items():
            if not holds:
                raise SettingsError(f"{what}.")


def load_config(path: Path) -> TrainingConfig:
    """Read a training run's settings.

    Raises:
        SettingsError: the file is not readable, a key is unknown, or a value is not valid.
    """
    return build(TrainingConfig, read_mapping(path), str(path))
