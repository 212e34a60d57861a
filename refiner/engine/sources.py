"""What fills a hole at each scale: the network's features, the photo's own pixels, or a fill that was given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from refiner.engine.judge import network_holds
from refiner.engine.optimize import StopRefinement
from refiner.engine.padding import size_of
from refiner.engine.transfer import add_detail
from refiner.exemplar import Exemplar, Level

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from refiner.choices import Detail, GuideSource
    from refiner.engine.result import WindowResult

_LOSSES = 2  # scales at which the network loses everywhere before it is not run any more


@dataclass(frozen=True)
class Fill:
    """What one scale gave.

    Attributes:
        prediction: (N,3,H,W); it counts in the hole.
        windows: what happened in each window that the network refined.
        stopped: whether to stop.
        shares: of the hole's pixels, by what filled them.
    """

    prediction: Tensor
    windows: tuple[WindowResult, ...] = ()
    stopped: bool = False
    shares: dict[str, float] = field(default_factory=dict)


class Sources:
    """Fills each scale from the source that the settings name, or from the one that holds better.

    Args:
        levels: image and hole of each scale and of those below it that the exemplar needs, the smallest first.
        first: index of the smallest scale in `levels`.
        detail: what fills the larger scales.
        guide: who fills the smallest; `auto` for whatever `detail` calls for.
        given: a fill (N,3,h,w) that takes the smallest scale's place.
        avoid: what must not be copied, (N,1,H,W), bool.
        seed: of copies.
        on_step: called while the exemplar is made, with a step's number and how many there are.
    """

    def __init__(
        self,
        levels: Sequence[tuple[Tensor, Tensor]],
        first: int,
        *,
        detail: Detail,
        guide: GuideSource,
        given: Tensor | None,
        avoid: Tensor | None,
        seed: int,
        on_step: Callable[[int, int], object],
    ) -> None:
        self._levels, self._first = levels, first
        self._detail, self._given, self._avoid = detail, given, avoid
        if guide == "auto" and detail != "auto":
            guide = "exemplar" if detail == "exemplar" else "model"
        self._guide = guide
        self._seed, self._on_step = seed, on_step
        self._stopped = False
        self._copied: list[Exemplar] | None = None  # by the rim alone
        self._following: list[Exemplar] | None = None  # after the smallest scale's fill
        self._follow: Tensor | None = None
        self._by_network: Tensor | None = None  # where the smallest scale is not the exemplar's
        self._losses = 0

    @property
    def runs_network(self) -> bool:
        """Whether the network can be run at all."""
        return self._detail in ("features", "auto") or (self._given is None and self._guide != "exemplar")

    def smallest(self, run_model: Callable[[], Fill]) -> Fill:
        """Fill the smallest scale.

        Args:
            run_model: the network's own fill.
        """
        image, hole = self._levels[self._first]
        if self._given is not None:
            given = functional.interpolate(
                self._given, size=size_of(image), mode="bilinear", align_corners=False, antialias=True
            ).clamp(0, 1)
            self._follow = torch.where(hole, given, image)
            self._by_network = hole
            return Fill(given, shares={"guide": 1.0})
        if self._guide == "exemplar":
            self._by_network = torch.zeros_like(hole)
            fill = self._copy(self._first)
            self._follow = torch.where(hole, fill.prediction, image) if self._detail != "exemplar" else None
            return fill
        fill = run_model()
        prediction = fill.prediction.clamp(0, 1)
        self._by_network = hole
        if self._guide == "auto" and not fill.stopped:
            copied = self._copy(self._first).prediction
            network, other = (torch.where(hole, each, image) for each in (prediction, copied))
            self._by_network = self._holds(network, other, hole)
            prediction = torch.where(self._by_network | ~hole, prediction, copied)
        self._follow = torch.where(hole, prediction, image)
        # Outside the hole it stays the network's: how it is off there tells how its colors are off.
        shares = self._shares(hole, self._by_network, "model")
        return Fill(prediction, stopped=fill.stopped or self._stopped, shares=shares)

    def larger(self, index: int, guide: Tensor, run_features: Callable[[], Fill]) -> Fill:
        """Fill a larger scale.

        Args:
            index: of the scale, the smallest being 0.
            guide: the previous scale's composite.
            run_features: the scale refined by features.
        """
        index += self._first
        image, hole = self._levels[index]
        if self._detail == "features":
            return run_features()
        assert self._by_network is not None  # noqa: S101  known from the smallest scale on
        by_network = _resized(self._by_network, hole)
        if self._detail == "exemplar":
            return self._copy(index) if self._given is None and self._guide == "exemplar" else self._copy_after(index)
        if not by_network.any() and self._detail == "auto":
            return self._copy(index)
        if self._detail == "auto" and self._losses < _LOSSES:
            fill = run_features()
            if fill.stopped and not (hole & ~by_network).any():
                return fill
        else:
            fill = None
        detailed = self._detailed(index, guide, image, hole)
        other = detailed
        if (hole & ~by_network).any():
            other = torch.where(by_network, detailed, self._copy(index).prediction)
        if fill is None:
            return Fill(other, stopped=self._stopped, shares=self._shares(hole, by_network, "both"))
        network = fill.prediction.clamp(0, 1)
        kept = self._holds(torch.where(hole, network, image), other, hole) & by_network
        self._losses = 0 if kept.any() else self._losses + 1
        shares = {
            "features": _share(kept, hole),
            "both": _share(by_network & ~kept, hole),
            "exemplar": _share(hole & ~by_network, hole),
        }
        shares = {name: share for name, share in shares.items() if share}
        stopped = fill.stopped or self._stopped
        return Fill(torch.where(kept | ~hole, network, other), fill.windows, stopped, shares)

    def _copy(self, index: int) -> Fill:
        if self._copied is None:
            self._copied = self._exemplars(None)
        return self._rendered(self._copied, index, "exemplar")

    def _copy_after(self, index: int) -> Fill:
        return self._rendered(self._followers(), index, "exemplar")

    def _detailed(self, index: int, guide: Tensor, image: Tensor, hole: Tensor) -> Tensor:
        rendered = self._rendered(self._followers(), index, "both").prediction
        return torch.cat(
            [
                add_detail(guide[i : i + 1], rendered[i : i + 1], image[i : i + 1], hole[i : i + 1])
                for i in range(len(image))
            ]
        )

    def _followers(self) -> list[Exemplar]:
        if self._following is None:
            self._following = self._exemplars(self._follow)
        return self._following

    def _exemplars(self, follow: Tensor | None) -> list[Exemplar]:
        """One for each image of the batch."""
        return [
            Exemplar(
                [Level(level[i : i + 1], hole[i : i + 1]) for level, hole in self._levels],
                avoid=None if self._avoid is None else self._avoid[i : i + 1],
                guide=None if follow is None else follow[i : i + 1],
                seed=self._seed,
                on_step=self._step,
            )
            for i in range(len(self._levels[0][0]))
        ]

    def _rendered(self, exemplars: list[Exemplar], index: int, name: str) -> Fill:
        prediction = torch.cat([exemplar.render(index) for exemplar in exemplars])
        return Fill(prediction, stopped=self._stopped, shares={name: 1.0})

    def _step(self, step: int, steps: int) -> bool:
        """Report; whether to end the search with what there is."""
        if not self._stopped:
            try:
                self._on_step(step, steps)
            except StopRefinement:
                self._stopped = True
        return self._stopped

    @staticmethod
    def _holds(network: Tensor, other: Tensor, hole: Tensor) -> Tensor:
        return torch.cat(
            [network_holds(network[i : i + 1], other[i : i + 1], hole[i : i + 1]) for i in range(len(hole))]
        )

    @staticmethod
    def _shares(hole: Tensor, by_network: Tensor, name: str) -> dict[str, float]:
        share = _share(by_network & hole, hole)
        return {key: value for key, value in ((name, share), ("exemplar", 1 - share)) if value}


def _share(part: Tensor, hole: Tensor) -> float:
    return round(int(part.sum()) / max(int(hole.sum()), 1), 4)


def _resized(mask: Tensor, hole: Tensor) -> Tensor:
    """A smaller scale's mask in a larger scale's hole."""
    larger = functional.interpolate(mask.float(), size=hole.shape[-2:], mode="nearest") > 0
    return larger & hole
