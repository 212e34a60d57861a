"""Checks of all that the engine relies on, run on an inpainter one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from refiner.engine.memory_estimate import can_estimate
from refiner.engine.refine import refine
from refiner.errors import RefinerError, first_line
from refiner.frozen import FrozenGradients, Survey, saved_bytes
from refiner.models.features import cast_features, feature_names, lr_factors
from refiner.models.private import private
from refiner.models.spec import ModelSpec
from refiner.settings import Settings
from refiner.testing.attributes import HasWhole, misplaced_names
from refiner.testing.subject import Subject
from refiner.torch_state import own_state

if TYPE_CHECKING:
    from refiner.models.inpainter import Inpainter

Status = Literal["ok", "failed", "note"]

_STEPS = 15
_SAME = 1e-4  # largest difference allowed between two ways to compute the same values, of about 1
_MARGIN = 0.02  # how far predictions may leave [0,1], as some networks do not bound their output
_LARGEST_FACTOR = 16  # of the spec's multiple, up to which the right multiple is looked for
_SHOWN = 4  # names in a message before "and N more"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: of the check, a word or two.
        status: `ok`, `failed`, or `note` for what cannot be judged or is only worth knowing.
        message: what was found, and what to do where it failed.
    """

    name: str
    status: Status
    message: str


@dataclass(frozen=True)
class Report:
    """What all checks found.

    Attributes:
        findings: in the order of the checks.
    """

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(finding.status != "failed" for finding in self.findings)

    def __str__(self) -> str:
        """A line for each finding."""
        width = max(len(finding.name) for finding in self.findings)
        return "\n".join(f"{f.status:6}  {f.name:{width}}  {f.message}" for f in self.findings)


def check(model: Inpainter) -> Report:
    """Check an inpainter on the device of its parameters, or on the CPU where it has none.

    Args:
        model: the inpainter; it is held in eval mode during the checks, as it is when it is refined.

    Returns:
        What works and what does not. Where a check fails that the later ones need, these are left out.
    """
    findings: list[Finding] = []
    with own_state(Subject(model).device), private(model) as held:
        for name, run, needed in _CHECKS:
            try:
                status, message = run(Subject(held))
            except Exception as error:  # noqa: BLE001  a network may raise anything, and the finding tells it
                status, message = "failed", _reason(error)
            findings.append(Finding(name, status, message))
            if needed and status == "failed":
                findings.append(Finding("the rest", "note", f"not checked, as it needs the check of {name}."))
                break
    return Report(tuple(findings))


def _interface(subject: Subject) -> tuple[Status, str]:
    model = subject.model
    missing = [name for name in ("front", "rear") if not callable(getattr(model, name, None))]
    if missing:
        return "failed", f"the model has no {' and no '.join(missing)}; see refiner.Inpainter."
    if not isinstance(getattr(model, "spec", None), ModelSpec):
        return "failed", "the model has no spec; give it `spec = ModelSpec(multiple=..., train_size=...)`."
    return "ok", f"front, rear, and sides in multiples of {model.spec.multiple}"


def _spelling(subject: Subject) -> tuple[Status, str]:
    found = misplaced_names(subject.model)
    if found:
        return "failed", f"{'; '.join(found)}."
    return "ok", "no attribute looks misspelled or out of place"


def _shapes(subject: Subject) -> tuple[Status, str]:
    multiple = subject.model.spec.multiple
    height, width = subject.size
    sizes = [
        (height, width),
        (height + multiple, width),
        (height, width + 3 * multiple),
        (height + 5 * multiple, width),
    ]
    for h, w in sizes:
        wrong = _trouble(subject, h, w)
        if wrong is not None:
            break
    else:
        return "ok", "predictions have the picture's shape at " + ", ".join(f"{w}x{h}" for h, w in sizes)
    for factor in range(2, _LARGEST_FACTOR + 1):
        m = factor * multiple
        start = -(-height // m) * m
        if _trouble(subject, start, start) is None and _trouble(subject, start + m, start + 3 * m) is None:
            return "failed", f"{wrong}; `multiple` is {multiple}, but it seems to be {m}."
    return "failed", f"{wrong}; expected (N,3,H,W) at every multiple of {multiple}."


def _trouble(subject: Subject, height: int, width: int) -> str | None:
    """What is wrong with the prediction at a size; None where nothing is."""
    image, hole = subject.picture(height, width)
    where = f"at {width}x{height}, a multiple of {subject.model.spec.multiple}"
    try:
        prediction = subject.predict(image, hole)
    except Exception as error:  # noqa: BLE001  see `check`
        return f"{where}, it fails ({_reason(error)})"
    if not isinstance(prediction, Tensor) or prediction.shape != image.shape:
        shape = tuple(prediction.shape) if isinstance(prediction, Tensor) else type(prediction).__name__
        return f"{where}, rear gives {shape} where the picture is {tuple(image.shape)}"
    return None if prediction.isfinite().all() else f"{where}, rear gives values that are not finite"


def _range(subject: Subject) -> tuple[Status, str]:
    image, hole = subject.picture(*subject.size)
    low, high = (value.item() for value in subject.predict(image, hole).aminmax())
    found = f"predictions go from {low:.2f} to {high:.2f}"
    if low < -_MARGIN or high > 1 + _MARGIN:
        likely = "[0,255]" if high > 2 else "[-1,1]" if low < -_MARGIN else "another range"  # noqa: PLR2004
        return "failed", f"{found}, expected [0,1]; it seems to work in {likely}: say so in its Encoding."
    return "ok", found


def _determinism(subject: Subject) -> tuple[Status, str]:
    image, hole = subject.picture(*subject.size)
    difference = (subject.predict(image, hole) - subject.predict(image, hole)).abs().max().item()
    if difference > 0:
        return "failed", (
            f"two runs on one picture differ by up to {difference:.2g}: something random, such as dropout called with "
            "training=True, stays on in eval mode; turn it off."
        )
    return "ok", "two runs on one picture are equal"


def _hidden(subject: Subject) -> tuple[Status, str]:
    image, hole = subject.picture(*subject.size)
    other = torch.where(hole > 0, 1 - image, image)
    difference = (subject.predict(image, hole) - subject.predict(other, hole)).abs().max().item()
    if difference > 0:
        return "failed", (
            f"other pixels under the hole change the prediction by up to {difference:.2g}: the network peeks at what "
            "it is to remove; front must hide it, as Encoding does."
        )
    return "ok", "what lies under the hole does not matter"


def _batch(subject: Subject) -> tuple[Status, str]:
    image, hole = subject.picture(*subject.size, count=2)
    together = subject.predict(image, hole)
    alone = torch.cat([subject.predict(image[i : i + 1], hole[i : i + 1]) for i in range(2)])
    difference = (together - alone).abs().max().item()
    if difference > 10 * _SAME:
        return "failed", f"pictures of a batch change each other by up to {difference:.2g}; each must stand alone."
    return "ok", f"pictures of a batch do not change each other (largest difference {difference:.1g})"


def _whole(subject: Subject) -> tuple[Status, str]:
    if not isinstance(subject.model, HasWhole):
        return "note", "no method `whole(image, mask)` to compare rear(front(image, mask)) with"
    image, hole = subject.picture(*subject.size)
    difference = (subject.predict(image, hole) - subject.model.whole(image, hole)).abs().max().item()
    if difference > _SAME:
        return "failed", f"rear(front(x)) differs from the whole network by up to {difference:.2g}; something is lost."
    return "ok", f"rear(front(x)) is the whole network (largest difference {difference:.1g})"


def _gradients(subject: Subject) -> tuple[Status, str]:
    image, hole = subject.picture(*subject.size)
    features = subject.features(image, hole)
    factors = lr_factors(features, subject.model.spec.lr_scale)
    named = [
        (name, leaf)
        for name, leaf, factor in zip(feature_names(features), tree_leaves(features), factors, strict=True)
        if isinstance(leaf, Tensor) and leaf.requires_grad and factor > 0
    ]
    if not named:
        return "failed", "front gives no floating-point tensor that is not frozen; there is nothing to optimize."
    with torch.enable_grad():
        prediction = subject.model.rear(features)
        if not prediction.requires_grad:
            return "failed", "the prediction has no gradient towards the features; rear must not detach them."
        gradients = torch.autograd.grad(prediction.square().sum(), [leaf for _, leaf in named], allow_unused=True)
    lost = [
        name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is None or not gradient.any()
    ]
    if lost:
        return (
            "failed",
            f"no gradient reaches {_list(lost)}: rear must use it, or leave it out or freeze it (lr_scale).",
        )
    wild = [
        name
        for (name, _), gradient in zip(named, gradients, strict=True)
        if gradient is not None and not gradient.isfinite().all()
    ]
    if wild:
        return "failed", f"the gradient of {_list(wild)} is not finite."
    sizes = ", ".join(f"{name} {'x'.join(str(side) for side in leaf.shape[1:])}" for name, leaf in named)
    return "ok", f"a gradient reaches every feature: {sizes}"


def _frozen_layers(subject: Subject) -> tuple[Status, str]:
    image, hole = subject.picture(*subject.size)
    features = subject.features(image, hole)
    leaves = [leaf for leaf in tree_leaves(features) if isinstance(leaf, Tensor) and leaf.requires_grad]

    def gradients() -> tuple[Tensor, tuple[Tensor, ...]]:
        prediction = subject.model.rear(features)
        return prediction.detach(), torch.autograd.grad(prediction.square().sum(), leaves)

    with torch.enable_grad():
        plain, expected = gradients()
        with FrozenGradients():
            exact, found = gradients()
    pairs = zip((exact, *found), (plain, *expected), strict=True)
    difference = max((a - b).norm().item() / max(b.norm().item(), 1e-12) for a, b in pairs)
    if difference > _SAME:
        return "failed", (
            f"outputs or gradients of the frozen layers differ from autograd's by {difference:.1g} relatively; please "
            "report this, with the network."
        )
    return "ok", f"frozen layers agree with autograd (relative difference {difference:.1g})"


def _precision(subject: Subject) -> tuple[Status, str]:
    image, hole = subject.picture(*subject.size)
    exact = subject.predict(image, hole)
    try:
        with FrozenGradients(torch.bfloat16):
            features = cast_features(subject.model.front(image, hole), subject.dtype)
            rounded = subject.model.rear(features).to(subject.dtype)
    except Exception as error:  # noqa: BLE001  see `check`
        return "failed", (
            f"convolutions in bfloat16 do not fit the rest ({_reason(error)}): write operations on several tensors "
            "so that dtypes may differ, as + and * allow, or refine with precision float32."
        )
    return "ok", f"convolutions in bfloat16 change the prediction by up to {(exact - rounded).abs().max().item():.1g}"


def _memory(subject: Subject) -> tuple[Status, str]:
    image, hole = subject.picture(*subject.size)
    features = subject.features(image, hole)
    pixels = image.shape[2] * image.shape[3]
    with torch.enable_grad():
        autograd = saved_bytes(lambda: subject.model.rear(features)) / pixels
        with FrozenGradients():
            ours = saved_bytes(lambda: subject.model.rear(features)) / pixels
        survey = Survey()
        with FrozenGradients(survey=survey):
            subject.model.rear(features)
    message = f"{ours:.0f} bytes a pixel are kept for the backward pass, {autograd:.0f} by ordinary autograd"
    rest = [f"{name} {count / pixels:.0f}" for name, count in survey.saved.most_common() if count >= pixels]
    if rest:
        return "note", f"{message}; left to autograd: {_list(rest)} bytes a pixel"
    return "ok", message


def _rehearsal(subject: Subject) -> tuple[Status, str]:
    if can_estimate(subject.model):
        return "ok", "its need of memory can be predicted"
    return "note", "its need of memory cannot be predicted: it does not run, or cannot be copied, without data"


def _refinement(subject: Subject) -> tuple[Status, str]:
    height, width = subject.size
    image, hole = subject.picture(2 * height, 2 * width)
    # As many predictions as the paper makes, of the whole picture; from the first to the best, the loss must fall.
    settings = Settings(
        detail="features", min_side=min(height, width), max_scales=2, steps=_STEPS, windows="off", precision="float32",
        back_projection=0,  # so that the model alone is judged
    )  # fmt: skip
    result = refine(subject.model, image, hole, settings)
    losses = result.scales[-1].losses
    change = f"loss {losses[0]:.4f} to {min(losses):.4f}"
    if losses[0] > 0:
        change += f" ({100 * (min(losses) / losses[0] - 1):+.1f} %)"
    known = (hole == 0).expand_as(image)
    if not torch.equal(result.image[known], image[known]):
        return "failed", "known pixels were changed; please report this, with the network."
    if min(losses) >= losses[0]:
        better = "smaller" if max(losses) > losses[0] else "larger"
        return "failed", (
            f"refinement does not lower the loss ({change}) at a learning rate of "
            f"{subject.model.spec.learning_rate:g}; set `learning_rate` of its spec to a {better} one."
        )
    return "ok", f"refinement lowers the loss: {change} in {_STEPS} predictions"


_Check = Callable[[Subject], "tuple[Status, str]"]
_CHECKS: tuple[tuple[str, _Check, bool], ...] = (  # name, check, and whether all later checks need it
    ("interface", _interface, True),
    ("spelling", _spelling, False),
    ("shapes", _shapes, True),
    ("range", _range, False),
    ("determinism", _determinism, False),
    ("hidden pixels", _hidden, False),
    ("batch", _batch, False),
    ("whole", _whole, False),
    ("gradients", _gradients, True),
    ("frozen layers", _frozen_layers, False),
    ("bfloat16", _precision, False),
    ("memory", _memory, False),
    ("rehearsal", _rehearsal, False),
    ("refinement", _refinement, False),
)


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _reason(error: Exception) -> str:
    """An error's first line, with the error's type in front unless it is a `RefinerError`."""
    return first_line(error) if isinstance(error, RefinerError) else f"{type(error).__name__}: {first_line(error)}"
