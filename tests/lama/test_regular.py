import pytest
import torch

from lama.checkpoint import load_generator, load_network
from lama.regular import RegularConfig, RegularGenerator
from lama.weights import CHECKPOINTS
from refiner import Settings, refine
from refiner.errors import ModelError
from refiner.testing import check

CONFIGS = [
    RegularConfig(),
    RegularConfig(n_blocks=15),  # big-lama-regular
    RegularConfig(dilations=4),  # ablv2_work_md
    RegularConfig(ngf=8, n_downsampling=2, n_blocks=2),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_sizes_are_read_off_the_tensors(config) -> None:
    with torch.device("meta"):
        assert RegularConfig.from_tensors(RegularGenerator(config).state_dict()) == config


def test_names_and_shapes_are_those_of_the_public_checkpoints() -> None:
    with torch.device("meta"):
        regular = {n: tuple(t.shape) for n, t in RegularGenerator(RegularConfig()).state_dict().items()}
        dilated = {n: tuple(t.shape) for n, t in RegularGenerator(RegularConfig(dilations=4)).state_dict().items()}
    assert regular["model.1.weight"] == (64, 4, 7, 7)
    assert regular["model.1.bias"] == (64,)
    assert regular["model.10.weight"] == (512, 256, 3, 3)
    assert regular["model.13.conv_block.1.weight"] == (512, 512, 3, 3)
    assert regular["model.21.conv_block.6.running_mean"] == (512,)
    assert regular["model.22.weight"] == (512, 256, 3, 3)  # transposed: inputs first
    assert regular["model.32.weight"] == (3, 64, 7, 7)
    assert dilated["model.13.conv_block.0.convs.3.weight"] == (512, 128, 3, 3)
    assert dilated["model.13.conv_block.4.weight"] == (512,)


@pytest.fixture(params=[0, 3])
def checkpoint(request, tmp_path):
    torch.manual_seed(0)
    network = RegularGenerator(RegularConfig(ngf=6, n_downsampling=2, n_blocks=2, dilations=request.param))
    folder = tmp_path / "model" / "models"
    folder.mkdir(parents=True)
    tensors = {f"generator.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": {**tensors, "discriminator.model0.0.weight": torch.zeros(1)}}, folder / "best.ckpt")
    return network.eval(), folder.parent


def test_public_layout_is_loaded_converted_and_refined(checkpoint, tmp_path, scene) -> None:
    network, path = checkpoint
    loaded, _ = load_network(path)
    x = torch.rand(1, 4, 48, 40)
    with torch.no_grad():
        assert torch.equal(loaded(x), network(x))
    CHECKPOINTS.convert(path, tmp_path / "m.safetensors", train_size=32, learning_rate=0.05)
    model = CHECKPOINTS.open(tmp_path / "m.safetensors")
    assert (model.spec.train_size, model.spec.learning_rate, model.spec.multiple) == (32, 0.05, 4)
    result = refine(model, *scene, Settings(detail="features", steps=6, precision="float32"))
    assert result.scales[-1].loss_after < result.scales[-1].loss_before
    report = check(model)
    assert report.passed, str(report)


def test_the_trainer_wants_fourier_convolutions(checkpoint) -> None:
    with pytest.raises(ModelError, match="without Fourier"):
        load_generator(checkpoint[1])


def test_dilated_convolutions_by_hand() -> None:
    """Each share of the channels is convolved with its own dilation, reflected at the edge."""
    from lama.regular import DilatedConvs

    layer = DilatedConvs(4, 2)
    with torch.no_grad():
        for conv in layer.convs:
            conv.weight.zero_()
            conv.bias.zero_()
        layer.convs[0].weight[0, 0, 1, 2] = 1  # the right neighbor of channel 0
        layer.convs[1].weight[0, 1, 1, 2] = 10  # two to the right in channel 3
    x = torch.zeros(1, 4, 5, 6)
    x[0, 0, 2], x[0, 3, 2] = torch.arange(6.0), torch.arange(6.0)
    wanted = torch.tensor([1, 2, 3, 4, 5, 4.0]) + 10 * torch.tensor([2, 3, 4, 5, 4, 3.0])
    assert torch.equal(layer(x)[0, 0, 2], wanted)
