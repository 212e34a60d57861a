"""Frozen layers and strips against PyTorch's own layers on the whole picture."""

from __future__ import annotations

import copy
import weakref
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from lama import Generator, GeneratorConfig, LamaInpainter
from lama.weights import LAMA_SMALL
from refiner.frozen import FrozenGradients, Survey, current_strip_height, emulation, in_strips, strip_height
from refiner.frozen.bits import pack, pack_by_arithmetic, unpack, unpack_by_arithmetic


def randomised(network: nn.Module) -> nn.Module:
    """Eval mode, no gradients, BatchNorms with something to do."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator))
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return network.eval().requires_grad_(False)


def gradient(run, x: Tensor, direction: Tensor | None = None) -> tuple[Tensor, Tensor]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    out = run(x)
    if direction is None:
        direction = torch.cos(torch.arange(out.numel())).to(out.dtype).reshape(out.shape)
    return out.detach(), torch.autograd.grad(out, x, direction)[0]


def check(network, x: Tensor, *, tolerance: float = 1e-12) -> None:
    expected = gradient(network, x)

    def frozen(x: Tensor) -> Tensor:
        with FrozenGradients():
            return network(x)

    for ours, theirs in zip(gradient(frozen, x), expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


def saved_bytes(run, x: Tensor) -> int:
    """Bytes that autograd keeps, parameters left out; each storage once."""
    storages = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run(x.detach().clone().requires_grad_())
    return sum(storages.values())


class Spectrum(nn.Module):
    def __init__(self, norm: str) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x, norm=self.norm)
        weights = torch.linspace(-1, 2, spectrum.shape[-1], dtype=x.dtype)
        return torch.fft.irfft2(spectrum * (weights + 0.3j), s=x.shape[-2:], norm=self.norm)


LAYERS = {
    "spectrum": Spectrum("ortho"),
    "spectrum of odd width": nn.Sequential(nn.ReflectionPad2d((1, 0, 1, 1)), Spectrum("backward"), Spectrum("forward")),
    "conv": nn.Conv2d(4, 6, 3),
    "conv without bias": nn.Conv2d(4, 6, 3, bias=False),
    "strided conv": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "dilated conv": nn.Conv2d(4, 6, 3, dilation=2, padding=2),
    "grouped conv": nn.Conv2d(4, 6, (3, 5), groups=2, padding=(0, 2)),
    "valid conv": nn.Conv2d(4, 6, 3, padding="valid"),
    "same conv": nn.Conv2d(4, 6, 3, padding="same"),
    "same conv of even sides": nn.Conv2d(4, 6, (4, 2), dilation=(1, 3), padding="same"),
    "reflecting conv": nn.Conv2d(4, 6, 5, padding=2, padding_mode="reflect"),
    "replicating conv": nn.Conv2d(4, 6, 5, padding=2, padding_mode="replicate"),
    "circular conv": nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
    "thin conv": nn.Conv2d(4, 3, 7, padding=3),
    "thin reflecting conv": nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(4, 3, 7)),
    "transposed conv": nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
    "grouped transposed conv": nn.ConvTranspose2d(4, 6, 4, stride=2, groups=2),
    "batch norm": nn.BatchNorm2d(4),
    "plain batch norm": nn.BatchNorm2d(4, affine=False),
    "relu": nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)),
    "leaky relu": nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(4, 4, 1), nn.LeakyReLU(0.1, inplace=True)),
    "relu6 and hardtanh": nn.Sequential(nn.ReLU6(), nn.Hardtanh(-0.3, 0.4)),
    "left to autograd": nn.Sequential(nn.ELU(), nn.InstanceNorm2d(4), nn.MaxPool2d(2), nn.Upsample(scale_factor=2)),
    "1-d padding": nn.Sequential(nn.Flatten(2), nn.ReflectionPad1d(2), nn.Conv1d(4, 2, 3)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")  # PyTorch's own, of even sides
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_agree_with_autograd(name, channels_last) -> None:
    torch.manual_seed(0)
    network = randomised(LAYERS[name].double())
    x = torch.randn(2, 4, 13, 18, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    check(network, x)


def test_functions_and_methods_are_seen_as_modules_are() -> None:
    weight = torch.randn(4, 4, 3, 3, dtype=torch.float64)

    def network(x: Tensor) -> Tensor:
        x = torch.relu(functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), weight))
        x = functional.relu(torch.conv2d(x, weight, padding=1), inplace=True)
        x = functional.conv2d(x, weight).relu() + functional.conv2d(x, weight).relu_()
        x = functional.leaky_relu(input=functional.conv2d(input=x, weight=weight), negative_slope=0.1)
        return torch.relu_(torch.fft.rfft2(input=x, norm="ortho").abs() * 2)

    x = torch.randn(1, 4, 12, 12, dtype=torch.float64)
    check(network, x)
    with FrozenGradients():
        assert saved_bytes(network, x) < 24 * x.numel() + weight.numel() * 8


def test_same_convolutions_are_computed_in_half_precision_too() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.Conv2d(4, 6, (2, 4), padding="same"))
    network.requires_grad_(requires_grad=False)
    x = torch.rand(1, 3, 20, 16)
    with FrozenGradients(torch.bfloat16):
        assert network(x).dtype == torch.bfloat16


@pytest.mark.parametrize("layer", [nn.Conv2d(6, 8, 3, padding=1), nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1)])
def test_a_cpu_without_bfloat16_gives_what_those_that_have_it_give(layer, monkeypatch) -> None:
    """Products of rounded numbers, added up in float32."""
    monkeypatch.setattr(emulation, "_convolves_bfloat16", lambda: False)
    layer.requires_grad_(False)
    x = torch.rand(1, 6, 20, 16)
    direction = torch.rand(layer(x).shape).bfloat16()

    def emulated(x: Tensor) -> Tensor:
        with FrozenGradients(torch.bfloat16):
            return layer(x)

    out, back = gradient(emulated, x, direction)
    rounded = copy.deepcopy(layer).bfloat16().float()
    wide, wide_back = gradient(rounded, x.bfloat16().float(), direction.float())
    assert out.dtype == torch.bfloat16
    assert back.dtype == torch.float32
    for ours, theirs in ((out, wide), (back, wide_back)):
        assert (ours.float() - theirs).abs().max() <= theirs.abs().max() / 256  # 8 bits
    assert torch.equal(back, back.bfloat16().float())


def test_casts_are_kept_for_parameters_alone() -> None:
    mode, parameter = FrozenGradients(torch.bfloat16), nn.Parameter(torch.rand(2, 2))
    assert mode.cast(parameter) is mode.cast(parameter)
    computed = weakref.ref(mode.cast(parameter.detach() * 2))  # as by weight_norm, anew for each prediction
    assert computed() is None


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(5, 24),
    width=st.integers(5, 24),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
)
def test_convolutions_of_any_shape(height, width, channels, kernel, stride, padding) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, channels[0], height, width, dtype=torch.float64)
    conv = nn.Conv2d(*channels, kernel, stride=stride, padding=padding)
    check(randomised(nn.Sequential(conv, nn.BatchNorm2d(channels[1]), nn.ReLU()).double()), x)
    transposed = nn.ConvTranspose2d(*channels, kernel, stride=stride, padding=min(padding, kernel - 1))
    check(randomised(nn.Sequential(transposed, nn.LeakyReLU(0.1)).double()), x)


class UNet(nn.Module):
    """Standard layers with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(4, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(inplace=True))
        self.down2 = nn.Sequential(nn.Conv2d(12, 24, 4, stride=2, padding=1), nn.BatchNorm2d(24), nn.LeakyReLU(0.2))
        self.up = nn.Sequential(nn.ConvTranspose2d(24, 12, 4, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.out = nn.Conv2d(24, 3, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down1(x)
        return torch.sigmoid(self.out(torch.cat([skip, self.up(self.down2(skip))], dim=1)))


def test_a_u_net_in_float32() -> None:
    torch.manual_seed(0)
    check(randomised(UNet()), torch.randn(2, 4, 32, 48), tolerance=1e-5)


def lama_features(dtype: torch.dtype) -> tuple[LamaInpainter, Tensor]:
    """The embedded model and features of a random picture, both branches in one tensor."""
    model = LAMA_SMALL().to(dtype)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 64, 96, generator=generator, dtype=dtype)
    mask = (torch.rand(1, 1, 64, 96, generator=generator) > 0.7).to(dtype)
    features = model.front(image, mask)
    torch.testing.assert_close(features, model.generator.to(dtype).front(torch.cat([image * (1 - mask), mask], dim=1)))
    return model, torch.cat(features, dim=1)


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[:, :64], x[:, 64:]


@pytest.mark.parametrize("fused", [True, False])
def test_lama_in_float32_agrees_with_ordinary_autograd(fused) -> None:
    model, features = lama_features(torch.float32)
    rear = model.rear if fused else model.generator.rear

    def frozen(x: Tensor) -> Tensor:
        with FrozenGradients():
            return rear(split(x))

    ours, theirs = gradient(frozen, features), gradient(lambda x: rear(split(x)), features)
    assert (ours[0] - theirs[0]).abs().max() <= 1e-5
    assert (ours[1] - theirs[1]).norm() <= 1e-5 * theirs[1].norm()


@pytest.mark.parametrize("rows", [None, 16])
def test_fused_lama_is_lama(rows) -> None:
    """In float64: in float32 rounding decides the sign of values near zero, and the gradient there."""
    model, features = lama_features(torch.float64)

    def ours(x: Tensor) -> Tensor:
        with strip_height(rows), FrozenGradients():
            return model.rear(split(x))

    one, other = gradient(ours, features), gradient(lambda x: model.generator.rear(split(x)), features)
    assert (one[0] - other[0]).abs().max() <= 1e-10
    assert (one[1] - other[1]).norm() <= 1e-10 * other[1].norm()


@pytest.mark.parametrize("rows", [None, 64])
def test_big_lamas_rear_saves_at_most_200_bytes_a_pixel(rows) -> None:
    model = LamaInpainter(Generator(GeneratorConfig()).eval())
    features = torch.rand(1, 512, 24, 24)

    def run(x: Tensor) -> None:
        with strip_height(rows), FrozenGradients():
            model.rear((x[:, :128], x[:, 128:]))

    assert saved_bytes(run, features) <= 200 * (8 * 24) ** 2


def test_weights_that_learn_keep_their_gradient() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 2, 3)).eval()
    x = torch.randn(1, 4, 8, 8)
    with FrozenGradients():
        network(x).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_survey_names_what_is_left_to_autograd() -> None:
    network = randomised(nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.ELU(), nn.Sigmoid()))
    survey = Survey()
    with FrozenGradients(survey=survey):
        network(torch.randn(1, 4, 10, 10, requires_grad=True))
    assert set(survey.saved) == {"torch.nn.functional.elu", "torch.sigmoid"}
    assert survey.saved["torch.sigmoid"] == 8 * 8 * 8 * 4


def test_low_precision_is_for_convolutions_alone() -> None:
    model = LAMA_SMALL()
    image, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    with torch.no_grad():
        exact = model.rear(model.front(image, mask))
        with FrozenGradients(torch.bfloat16):
            close = model.rear(model.front(image, mask))
            assert torch.fft.rfft2(image.bfloat16()).dtype == torch.complex64
            assert functional.conv2d(image, torch.ones(8, 3, 1, 1)).dtype == torch.bfloat16
            assert functional.conv2d(image, torch.ones(3, 3, 1, 1)).dtype == torch.float32, "what makes the picture"
    assert not torch.equal(exact, close.float())
    assert (exact - close.float()).abs().mean() < 5e-3


@given(st.integers(1, 70), st.integers(0, 99))
def test_bits(count, seed) -> None:
    flags = torch.rand(count, generator=torch.Generator().manual_seed(seed)) > 0.5
    bits = pack(flags)
    assert bits.shape == (-(-count // 8),)
    assert torch.equal(unpack(bits, count), flags)


@given(st.integers(1, 70), st.integers(0, 99))
def test_bits_by_arithmetic_as_on_a_gpu(count, seed) -> None:
    flags = torch.rand(count, generator=torch.Generator().manual_seed(seed)) > 0.5
    assert torch.equal(pack_by_arithmetic(flags), pack(flags))
    assert torch.equal(unpack_by_arithmetic(pack(flags), count), flags)


def local_network(scale: Fraction) -> tuple[nn.Module, int]:
    """A network of small reach at the given scale, and its halo in coarse rows."""
    if scale == 1:
        return nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(3, 5, 5), nn.ReLU(), nn.Conv2d(5, 2, 3, padding=1)), 3
    if scale < 1:
        down = nn.Conv2d(3, 5, 3, stride=2, padding=1, padding_mode="reflect")
        return nn.Sequential(down, nn.ReLU(), nn.Conv2d(5, 4, 3, stride=2, padding=1)), 2
    up = nn.ConvTranspose2d(3, 5, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(up, nn.ReLU(), nn.ConvTranspose2d(5, 4, 4, stride=2, padding=1), nn.Sigmoid()), 3


@settings(max_examples=30, deadline=None)
@given(
    scale=st.sampled_from([Fraction(1), Fraction(4), Fraction(1, 4)]),
    rows=st.integers(1, 9),
    height=st.integers(6, 14),
    channels_last=st.booleans(),
)
def test_strips_give_the_whole_pictures_numbers(scale, rows, height, channels_last) -> None:
    torch.manual_seed(0)
    network, halo = local_network(scale)
    network = randomised(network.double())
    fine = 1 if scale >= 1 else scale.denominator
    x = torch.randn(2, 3, height * fine, 8 * fine, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)

    def strips(x: Tensor) -> Tensor:
        with FrozenGradients():
            return in_strips(network, x, rows=rows, halo=halo, scale=scale)

    torch.testing.assert_close(gradient(strips, x), gradient(network, x), rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(strips(x), network(x))


def test_a_halo_too_small_is_seen() -> None:
    """The test above can fail."""
    torch.manual_seed(0)
    network, halo = local_network(Fraction(1))
    x = torch.randn(1, 3, 20, 8)
    with torch.no_grad():
        short = in_strips(network, x, rows=5, halo=halo - 1, scale=Fraction(1))
        assert not torch.allclose(short, network(x))


def test_strips_are_walked_back_once() -> None:
    """What they free on the way is gone, and zeros would be a wrong gradient."""
    network, halo = local_network(Fraction(1))
    x = torch.randn(1, 3, 20, 8, requires_grad=True)
    out = in_strips(randomised(network), x, rows=5, halo=halo, scale=Fraction(1)).sum()
    assert torch.autograd.grad(out, x, retain_graph=True)[0].any()
    with pytest.raises(RuntimeError, match="strips: walked back a second time"):
        torch.autograd.grad(out, x)


class Away(torch.autograd.Function):
    """Stands for a part on another device: the output lies there, the gradient comes back."""

    @staticmethod
    def forward(ctx, x):
        ctx.x_like = x.shape
        return torch.empty_like(x, device="meta")

    @staticmethod
    def backward(ctx, grad):
        assert grad.device.type == "meta"
        return torch.ones(ctx.x_like)


def test_a_strips_gradient_lies_where_its_input_does() -> None:
    x = torch.randn(1, 3, 20, 8, requires_grad=True)
    out = in_strips(Away.apply, x, rows=5, halo=0, scale=Fraction(1))
    assert out.device.type == "meta"
    (found,) = torch.autograd.grad(out, x, torch.empty_like(out))
    assert found.device == x.device
    assert torch.equal(found, torch.ones_like(x))


def test_what_has_no_batch_and_padding_that_cuts_are_left_to_pytorch() -> None:
    torch.manual_seed(0)
    network = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 5, 3, stride=2), nn.ReLU()).double())
    check(network, torch.randn(3, 9, 8, dtype=torch.float64))
    for widths in ((-1, 2, 3, -2), (2, -3, -1, -1)):
        for mode in ("reflect", "replicate"):

            def padded(x: Tensor, widths=widths, mode=mode) -> Tensor:
                return functional.pad(x, widths, mode=mode)

            check(padded, torch.randn(2, 3, 9, 8, dtype=torch.float64))


def test_the_picture_keeps_its_values_in_bfloat16() -> None:
    """A head in 8 bits of mantissa gives a smooth 16-bit photo bands."""
    torch.manual_seed(0)
    head = randomised(nn.Sequential(nn.Conv2d(16, 3, 7, padding=3), nn.Sigmoid()))
    features = functional.interpolate(torch.randn(1, 16, 2, 2), size=(96, 96), mode="bilinear")
    with torch.no_grad():
        exact = head(features)
        with FrozenGradients(torch.bfloat16):
            found = head(features)
    levels, expected = ((x * 65535).round().unique().numel() for x in (found, exact))
    assert found.dtype == torch.float32
    assert levels > 0.9 * expected > 5000


def test_threads_have_their_own_strips() -> None:
    with strip_height(64), ThreadPoolExecutor(1) as other:
        assert other.submit(current_strip_height).result() is None
        with strip_height(None):
            assert current_strip_height() is None
        assert current_strip_height() == 64
    assert current_strip_height() is None
