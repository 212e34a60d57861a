"""One step of LaMa's training (arXiv 2109.07161), and the state that it updates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lama.generator import Generator
from lama.training.discriminator import Discriminator
from lama.training.losses import (
    discriminator_adversarial,
    feature_distance,
    generator_adversarial,
    gradient_penalty,
    masked_l1,
    perceptual_distance,
)
from refiner.engine.precision import conv_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lama.training.config import TrainingConfig


class Trainer:
    """Generator, discriminator, their optimizers, and the average of the generator's weights.

    Args:
        config: the run's settings.
        device: where to train.
        perceptual: network of the perceptual loss; None leaves that loss out.
        init: a trained generator to go on from.

    Attributes:
        step_count: steps done.
        average: the exponential moving average of the generator, which is evaluated and exported.
    """

    def __init__(
        self,
        config: TrainingConfig,
        device: torch.device,
        *,
        perceptual: nn.Module | None = None,
        init: Generator | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        self.generator = _placed(Generator(config.generator), device)
        self.discriminator = _placed(Discriminator(config.discriminator), device)
        self.perceptual = None if perceptual is None else _placed(perceptual, device)
        if init is not None:
            # Checkpoints lack BatchNorm's counters, which training does not need.
            self.generator.load_state_dict(init.state_dict(), strict=False)
        decay: Any = get_ema_multi_avg_fn(config.optimizer.ema)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(self.generator, multi_avg_fn=decay, use_buffers=True)
        betas = (config.optimizer.betas[0], config.optimizer.betas[1])
        self._optimizers = {
            "generator": torch.optim.Adam(self.generator.parameters(), config.optimizer.generator_lr, betas),
            "discriminator": torch.optim.Adam(
                self.discriminator.parameters(), config.optimizer.discriminator_lr, betas
            ),
        }
        self.step_count = 0
        dtype = conv_dtype(config.precision, device, torch.float32)  # type: ignore[arg-type]
        self._autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is not None)

    @property
    def average(self) -> Generator:
        """The averaged generator."""
        module: Any = self._averaged.module
        return cast("Generator", module)

    def step(self, pictures: Tensor, holes: Tensor, share: float) -> dict[str, Tensor]:
        """One update of each network.

        Args:
            pictures: (N,3,H,W) in [0,1].
            holes: (N,1,H,W), 1 inside.
            share: how far the training is, from 0 to 1; schedules follow it.

        Returns:
            The losses before weighting, without gradient.
        """
        weights = self.config.losses
        pictures = pictures.to(self.device, memory_format=torch.channels_last)
        holes = holes.to(self.device)
        for name, optimizer in self._optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(share) * getattr(self.config.optimizer, f"{name}_lr")
        adversarial = weights.adversarial_from <= share and max(weights.adversarial, weights.feature_matching) > 0

        with self._autocast:
            prediction = self.generator(torch.cat([pictures * (1 - holes), holes], dim=1)).float()
        fake = prediction.detach()  # from before the generator's update
        losses = self._generator_losses(prediction, pictures, holes, adversarial=adversarial)
        total = torch.stack([self.weight(name, share) * loss for name, loss in losses.items()]).sum()
        self._update("generator", total, clip=self.config.optimizer.clip, networks=self.generator.parameters())
        self._averaged.update_parameters(self.generator)
        if adversarial:
            losses |= self._discriminator_step(fake, pictures, holes)
        self.step_count += 1
        return {name: loss.detach() for name, loss in losses.items()}

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, except the data."""
        return {
            "step": self.step_count,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self._averaged.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` gave."""
        self.step_count = state["step"]
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self._averaged.load_state_dict(state["average"])
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])

    def _generator_losses(
        self, prediction: Tensor, pictures: Tensor, holes: Tensor, *, adversarial: bool
    ) -> dict[str, Tensor]:
        losses = {"known_l1": masked_l1(prediction, pictures, 1 - holes)}
        if self.config.losses.hole_l1 > 0:
            losses["hole_l1"] = masked_l1(prediction, pictures, holes)
        with self._autocast:
            if adversarial:
                self.discriminator.requires_grad_(False)  # its gradients would be thrown away
                with torch.no_grad():
                    _, real_features = self.discriminator(pictures)
                fake_logits, fake_features = self.discriminator(prediction)
                self.discriminator.requires_grad_(True)
                losses["adversarial"] = generator_adversarial(fake_logits)
                losses["feature_matching"] = feature_distance(fake_features, real_features)
            if self.perceptual is not None:
                with torch.no_grad():
                    real = self.perceptual(pictures)
                losses["perceptual"] = perceptual_distance(self.perceptual(prediction), real)
        return losses

    def _discriminator_step(self, fake: Tensor, pictures: Tensor, holes: Tensor) -> dict[str, Tensor]:
        weights = self.config.losses
        with self._autocast:
            loss = discriminator_adversarial(self.discriminator(pictures)[0], self.discriminator(fake)[0], holes)
        losses, total = {"discriminator": loss}, loss
        if weights.gradient_penalty > 0 and self.step_count % weights.penalty_every == 0:
            real = pictures.detach().requires_grad_()  # in float32: it is differentiated twice
            losses["penalty"] = gradient_penalty(self.discriminator(real)[0], real)
            total = total + weights.gradient_penalty * weights.penalty_every * losses["penalty"]
        self._update("discriminator", total)
        return losses

    def _update(
        self, name: str, loss: Tensor, *, clip: float | None = None, networks: Iterable[nn.Parameter] = ()
    ) -> None:
        optimizer = self._optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            nn.utils.clip_grad_norm_(networks, clip)
        optimizer.step()

    def weight(self, name: str, share: float) -> float:
        """A loss's weight after a share of the training; the adversarial losses are phased in."""
        weights = self.config.losses
        weight: float = getattr(weights, name)
        if name in ("adversarial", "feature_matching") and weights.adversarial_ramp > 0:
            weight *= min(1.0, (share - weights.adversarial_from) / weights.adversarial_ramp)
        return weight

    def learning_rate(self, share: float) -> float:
        """The learning rate as a share of the highest: a linear start, then half a cosine."""
        optimizer = self.config.optimizer
        if share < optimizer.warmup:
            return share / optimizer.warmup
        done = (share - optimizer.warmup) / max(1 - optimizer.warmup, 1e-9)
        return optimizer.final_lr + (1 - optimizer.final_lr) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _placed(network: Any, device: torch.device) -> Any:
    return network.to(device, memory_format=torch.channels_last)
