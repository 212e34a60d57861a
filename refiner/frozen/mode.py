"""A context in which any PyTorch code computes exact gradients towards its inputs from packed bits."""

# Autograd functions are called through an untyped `apply`.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode, resolve_name

from refiner.frozen.functions import ConvShape, FrozenAffine, FrozenConv, FrozenGate, FrozenPad, FrozenRfft2
from refiner.frozen.spectra import inverse_rfft2

if TYPE_CHECKING:
    from collections.abc import Callable

_INF = float("inf")
_BATCHED = 4  # N, C, H, W
_LAST_TWO = ((-2, -1), (2, 3))
_PICTURE_CHANNELS = 4  # a convolution to so few makes a picture, which bfloat16's 8 bits would posterize


class Survey:
    """What ordinary autograd still saves: bytes by the name of the operation, for those not known here."""

    def __init__(self) -> None:
        self.saved: Counter[str] = Counter()

    def run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an operation and note what autograd saves for it, parameters left out."""
        name = resolve_name(func) or str(func)

        def note(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, torch.nn.Parameter):
                self.saved[name] += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            return func(*args, **kwargs)


def saved_bytes(run: Callable[[], object]) -> int:
    """Bytes that autograd keeps for the backward pass of `run`: each storage once, parameters left out."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        alive = run()  # while the result lives, no storage is freed and its address used again
    del alive
    return sum(kept.values())


class FrozenGradients(TorchFunctionMode):
    """Within it, layers with frozen weights save no activations for the backward pass.

    Convolutions and transposed convolutions (2-D), BatchNorm in eval mode, ReLU, LeakyReLU, ReLU6 and Hardtanh,
    padding by reflection or replication, and real FFTs are computed by `refiner.frozen.functions`, as modules or as
    functions. Sums, concatenations and resizes save nothing in PyTorch either. All else is left to ordinary autograd:
    a `Survey` says what that keeps. Layers whose weights need a gradient are left alone.

    Args:
        conv_dtype: precision to compute convolutions in, whatever the dtype of their input; their output stays in
            it. FFTs are then computed in float32, and so are convolutions to four channels or fewer: those make the
            picture, whose values need more than the 8 bits of bfloat16. None leaves dtypes alone.
        survey: notes what other operations save. It costs PyTorch its check for tensors changed in place, so it is
            for inspection.
    """

    def __init__(self, conv_dtype: torch.dtype | None = None, survey: Survey | None = None) -> None:
        super().__init__()
        self._conv_dtype = conv_dtype
        self._survey = survey
        self._casts: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        handler = _HANDLERS.get(func)
        if handler is not None and "input" in kwargs:
            args, kwargs = (kwargs["input"], *args), {key: kwargs[key] for key in kwargs if key != "input"}
        result = handler(self, *args, **kwargs) if handler is not None else NotImplemented
        if result is not NotImplemented:
            return result
        if self._survey is not None:
            return self._survey.run(func, args, kwargs)
        return func(*args, **kwargs)

    def cast(self, weight: Tensor) -> Tensor:
        """A weight in the precision of convolutions, cast once."""
        if self._conv_dtype is None or weight.dtype == self._conv_dtype:
            return weight
        if not isinstance(weight, torch.nn.Parameter):  # computed anew for each prediction, as by weight_norm
            return weight.detach().to(self._conv_dtype)
        if id(weight) not in self._casts:
            cast = torch.nn.Parameter(weight.detach().to(self._conv_dtype), requires_grad=False)
            self._casts[id(weight)] = weight, cast  # holds the weight too: the id of a freed one is used again
        return self._casts[id(weight)][1]

    def conv(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        """`conv2d`."""
        if x.ndim != _BATCHED:
            return NotImplemented
        if padding == "valid":
            padding = 0
        if padding == "same":
            if _learns(weight, bias) or _pair(stride) != (1, 1):
                return NotImplemented
            total = [d * (k - 1) for d, k in zip(_pair(dilation), weight.shape[2:], strict=True)]
            padding = [side // 2 for side in total]
            if any(side % 2 for side in total):  # then one more at the far end
                x = functional.pad(x, (0, total[1] % 2, 0, total[0] % 2))
        return self._convolve(x, weight, bias, ConvShape(_pair(stride), _pair(padding), _pair(dilation), groups))

    def conv_transpose(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Any:
        """`conv_transpose2d`."""
        if x.ndim != _BATCHED:
            return NotImplemented
        shape = ConvShape(
            _pair(stride),
            _pair(padding),
            _pair(dilation),
            groups,
            transposed=True,
            output_padding=_pair(output_padding),
        )
        return self._convolve(x, weight, bias, shape)

    def batch_norm(
        self,
        x: Tensor,
        mean: Tensor | None,
        var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,  # noqa: ARG002  the signature is PyTorch's
        eps: float = 1e-5,
    ) -> Any:
        """`batch_norm` in eval mode."""
        if training or mean is None or var is None or _learns(weight, bias):
            return NotImplemented
        scale = torch.rsqrt(var + eps) * (1 if weight is None else weight)
        shift = (0 if bias is None else bias) - mean * scale
        shape = (1, -1, *[1] * (x.ndim - 2))
        return FrozenAffine.apply(x, scale.reshape(shape), shift.reshape(shape))

    def relu(self, x: Tensor, inplace: bool = False) -> Any:
        """`relu`."""
        return self._gate(x, 0.0, _INF, 0.0, inplace)

    def relu_(self, x: Tensor) -> Any:
        """`relu_`."""
        return self._gate(x, 0.0, _INF, 0.0, inplace=True)

    def leaky_relu(self, x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Any:
        """`leaky_relu`; not with a slope below 0, where the output's sign is not the input's."""
        return self._gate(x, 0.0, _INF, negative_slope, inplace) if negative_slope > 0 else NotImplemented

    def relu6(self, x: Tensor, inplace: bool = False) -> Any:
        """`relu6`."""
        return self._gate(x, 0.0, 6.0, 0.0, inplace)

    def hardtanh(self, x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
        """`hardtanh`."""
        return self._gate(x, min_val, max_val, 0.0, inplace)

    def pad(self, x: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Any:  # noqa: ARG002
        """`pad` of two axes by reflection or replication."""
        if mode not in ("reflect", "replicate") or len(pad) != 4 or x.ndim != _BATCHED:  # noqa: PLR2004  two axes
            return NotImplemented
        if min(pad) < 0:  # which cuts
            return NotImplemented
        return FrozenPad.apply(x, tuple(pad), mode)

    def rfft2(self, x: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Any:
        """`rfft2` of whole pictures."""
        x = _wide(x)
        if s is not None or tuple(dim) not in _LAST_TWO or x.ndim != _BATCHED:
            return torch.fft.rfft2(x, s, dim, norm)
        return FrozenRfft2.apply(x, norm or "backward")

    def irfft2(self, x: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Any:
        """`irfft2` of whole pictures; the same on every device where the spectrum is not symmetric."""
        if tuple(dim) not in _LAST_TWO or x.ndim != _BATCHED:
            return NotImplemented
        height, width = s if s is not None else (x.shape[-2], 2 * (x.shape[-1] - 1))
        if height != x.shape[-2] or width // 2 + 1 != x.shape[-1]:
            return NotImplemented
        return inverse_rfft2(x, (height, width), norm)

    def fft(self, func: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """An FFT: in float32, where convolutions are computed in less."""
        return func(_wide(x), *args, **kwargs)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, shape: ConvShape) -> Any:
        if _learns(weight, bias):
            return NotImplemented
        outputs = weight.shape[1] * shape.groups if shape.transposed else weight.shape[0]
        if outputs > _PICTURE_CHANNELS:
            weight, bias = self.cast(weight), None if bias is None else self.cast(bias)
        return FrozenConv.apply(x, weight, bias, shape)

    def _gate(self, x: Tensor, low: float, high: float, slope: float, inplace: bool) -> Any:
        if not (torch.is_grad_enabled() and x.requires_grad):
            return NotImplemented
        return FrozenGate.apply(x, None, low, high, slope, inplace and not x.is_leaf)


def _learns(*parameters: Tensor | None) -> bool:
    return any(parameter is not None and parameter.requires_grad for parameter in parameters)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    values = tuple(value)
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _fft(func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda mode, *args, **kwargs: mode.fft(func, *args, **kwargs)


# A module calls one of these; what they call in turn is not seen by the mode.
_HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    functional.conv2d: FrozenGradients.conv,
    functional.conv_transpose2d: FrozenGradients.conv_transpose,
    functional.batch_norm: FrozenGradients.batch_norm,
    functional.pad: FrozenGradients.pad,
    functional.relu: FrozenGradients.relu,
    torch.relu: FrozenGradients.relu,
    torch.Tensor.relu: FrozenGradients.relu,
    functional.relu_: FrozenGradients.relu_,
    torch.relu_: FrozenGradients.relu_,
    torch.Tensor.relu_: FrozenGradients.relu_,
    functional.leaky_relu: FrozenGradients.leaky_relu,
    functional.relu6: FrozenGradients.relu6,
    functional.hardtanh: FrozenGradients.hardtanh,
    torch.fft.rfft2: FrozenGradients.rfft2,
    torch.fft.irfft2: FrozenGradients.irfft2,
    torch.fft.rfftn: _fft(torch.fft.rfftn),
    torch.fft.fft2: _fft(torch.fft.fft2),
    torch.fft.fftn: _fft(torch.fft.fftn),
}
