import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from lama import GeneratorConfig, load_generator
from lama.training.__main__ import main
from lama.training.config import (
    DataConfig,
    DiscriminatorConfig,
    LossConfig,
    OptimizerConfig,
    TrainingConfig,
    load_config,
)
from lama.training.data import hold_out, keep_photos
from lama.training.run import Run, export, read_state
from lama.training.trainer import Trainer
from refiner import load_model
from refiner.config_files import config_folder
from refiner.errors import InputError, ModelError, SettingsError
from refiner.evaluation.random_masks import Boxes, MaskKind, Strokes

CPU = torch.device("cpu")


def tiny(**changes):
    masks = MaskKind(
        64, Strokes(1, 2, max_width=12, max_length=40), Boxes(1, 2, min_size=10, max_size=30, margin=4), boxes_weight=1
    )
    config = TrainingConfig(
        data=DataConfig(masks=masks, crop=64, batch=4, working_side=96, max_zoom_out=1.4, held_out=0.2, workers=0),
        generator=GeneratorConfig(ngf=8, n_blocks=2, global_channels=48),
        discriminator=DiscriminatorConfig(ndf=8, n_layers=2),
        losses=LossConfig(hole_l1=5, adversarial=1, perceptual=0, penalty_every=2),
        optimizer=OptimizerConfig(generator_lr=2e-3, warmup=0.02, ema=0.9),
        steps=6,
        precision="float32",
        evaluate_every=3,
        evaluation_crops=8,
        save_every=3,
    )
    return dataclasses.replace(config, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures with structure: broad waves of any direction between two colors."""
    folder = tmp_path_factory.mktemp("synthetic")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:96, 0:128] / 96
    for number in range(12):
        angle, width, phase = rng.uniform(0, np.pi), rng.uniform(0.5, 1.2), rng.uniform(0, 6)
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / width + phase)[..., None]
        colors = np.array([[0.9, 0.7, 0.2], [0.1, 0.3, 0.6]]) + rng.uniform(-0.1, 0.1, (2, 3))
        picture = wave * colors[0] + (1 - wave) * colors[1]
        Image.fromarray((255 * picture).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def make(config, folder, out, header=None, **options):
    photos = keep_photos(folder, out / "cache", side=config.data.working_side, min_side=config.data.crop, on_skip=print)
    train, held = hold_out(photos, config.data.held_out)
    trainer = Trainer(config, CPU, **options)
    return Run(config, trainer, train, held, out, lambda _: None, header=header, log_every=1)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def losses(out):
    return [
        {k: v for k, v in row.items() if k not in ("minutes", "images_per_second")}
        for row in rows(out / "training.csv")
    ]


def test_resumed_training_is_the_undisturbed_one_bit_for_bit(folder, tmp_path):
    whole = make(tiny(), folder, tmp_path / "whole")
    assert whole.train()

    broken = make(tiny(), folder, tmp_path / "broken")
    step = broken.trainer.step

    def killed(*args):
        if broken.trainer.step_count == 4:  # a kill in the fifth step
            raise KeyboardInterrupt
        return step(*args)

    broken.trainer.step = killed
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    assert len(losses(tmp_path / "broken")) == 4  # one more than the saved state knows of

    resumed = make(tiny(), folder, tmp_path / "broken")
    resumed.resume()
    assert resumed.trainer.step_count == 3
    assert resumed.train()

    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 6
    for name, tensor in whole.trainer.state()["average"].items():
        assert torch.equal(tensor, resumed.trainer.state()["average"][name]), name
    first, second = (
        [{k: v for k, v in row.items() if k != "minutes"} for row in rows(tmp_path / name / "evaluation.csv")]
        for name in ("whole", "broken")
    )
    assert first == second
    sheets = sorted(p.name for p in (tmp_path / "broken" / "sheets").iterdir())
    assert sheets == ["0000000.png", "0000003.png", "0000006.png"]


def test_every_loss_is_logged_and_the_penalty_comes_now_and_then(folder, tmp_path):
    run = make(
        tiny(losses=LossConfig(hole_l1=1, perceptual=1, penalty_every=2)), folder, tmp_path, perceptual=Features()
    )
    run.train(steps=3)
    table = rows(tmp_path / "training.csv")
    for name in ("known_l1", "hole_l1", "adversarial", "feature_matching", "perceptual", "discriminator"):
        assert all(float(row[name]) > 0 for row in table), name
    assert [row["penalty"] != "" for row in table] == [True, False, True]


class Features(torch.nn.Module):
    def forward(self, picture):
        return [picture, picture.mean(dim=(2, 3))]


def test_the_discriminator_comes_in_late_and_softly(folder, tmp_path):
    config = tiny(losses=LossConfig(perceptual=0, adversarial_from=0.5, adversarial_ramp=0.5))
    run = make(config, folder, tmp_path)
    before = [p.clone() for p in run.trainer.discriminator.parameters()]
    run.train(steps=2)
    first, second = rows(tmp_path / "training.csv")
    assert first["adversarial"] == ""
    assert second["adversarial"] != ""
    assert any(not torch.equal(a, b) for a, b in zip(before, run.trainer.discriminator.parameters(), strict=True))
    assert run.trainer.weight("adversarial", 0.5) == 0
    assert run.trainer.weight("adversarial", 0.75) == pytest.approx(5)
    assert run.trainer.weight("adversarial", 1.0) == pytest.approx(10)


def test_schedule_warms_up_and_falls_by_a_cosine():
    trainer = Trainer(tiny(optimizer=OptimizerConfig(warmup=0.1, final_lr=0.2)), CPU)
    shares = [0, 0.05, 0.1, 0.55, 1.0]
    assert [trainer.learning_rate(share) for share in shares] == pytest.approx([0, 0.5, 1, 0.6, 0.2])


def test_the_average_follows_the_weights(folder, tmp_path):
    run = make(tiny(), folder, tmp_path)
    trainer = run.trainer
    pictures, holes = run.held_out
    trainer.step(pictures[:4], holes[:4], 0.5)  # the first sets the average
    old = trainer.average.model[1].ffc.convl2l.weight.clone()
    trainer.step(pictures[:4], holes[:4], 0.5)
    expected = 0.9 * old + 0.1 * trainer.generator.model[1].ffc.convl2l.weight
    torch.testing.assert_close(trainer.average.model[1].ffc.convl2l.weight, expected)


def test_training_lowers_the_error_on_held_out_crops(folder, tmp_path):
    config = tiny(
        data=dataclasses.replace(tiny().data, batch=8),
        losses=LossConfig(hole_l1=50, adversarial=1, perceptual=0, penalty_every=4, adversarial_from=0.7),
        optimizer=OptimizerConfig(generator_lr=4e-3, ema=0.95),
        evaluate_every=1000,
        save_every=1000,
        evaluation_crops=32,
    )
    run = make(config, folder, tmp_path)
    # 20 s of one core; the errors below are then at 0.4 of what they are compared with.
    assert run.train(steps=200)
    table = rows(tmp_path / "evaluation.csv")
    model = [row for row in table if row["fill"] == "model"]
    mean = next(row for row in table if row["fill"] == "mean")
    assert float(model[-1]["l1"]) < 0.7 * float(model[0]["l1"])
    assert float(model[-1]["l1"]) < 0.9 * float(mean["l1"])  # more than an average color was learnt
    assert float(model[-1]["texture"]) < float(mean["texture"])
    # bfloat16 and the reference's channel order must not matter to what is exported
    export(tmp_path, tmp_path / "model.safetensors", half=True, learning_rate=0.01)
    generator, header = load_generator(tmp_path / "model.safetensors")
    assert header["train_size"] == "64"
    assert header["learning_rate"] == "0.01"
    pictures, holes = run.held_out
    x = torch.cat([pictures * (1 - holes), holes], dim=1)[:2]
    with torch.no_grad():
        torch.testing.assert_close(generator(x), run.trainer.average.eval()(x), atol=5e-3, rtol=0)
    export(tmp_path, tmp_path / "folder", half=False)
    public, _ = load_generator(tmp_path / "folder")
    described = yaml.safe_load((tmp_path / "folder" / "config.yaml").read_text())["generator"]
    assert described["resnet_conv_kwargs"]["ratio_gin"] == 0.75
    with torch.no_grad():
        torch.testing.assert_close(public(x), run.trainer.average(x))


def test_training_in_bfloat16_gives_finite_losses(folder, tmp_path):
    run = make(tiny(precision="bfloat16"), folder, tmp_path)
    run.train(steps=3)
    values = [float(v) for row in losses(tmp_path) for v in row.values() if v]
    assert np.isfinite(values).all()


def test_minutes_count_on_over_a_restart(folder, tmp_path):
    run = make(tiny(), folder, tmp_path)
    run.elapsed = 59.0
    run.save()
    resumed = make(tiny(), folder, tmp_path)
    resumed.resume()
    assert resumed.share_done(10**9, minutes=2) == pytest.approx(59 / 120)
    assert resumed.train(minutes=59.05 / 60)
    assert resumed.trainer.step_count >= 1


def test_init_starts_from_given_weights(folder, tmp_path):
    first = make(tiny(), folder, tmp_path / "a")
    first.train(steps=1)
    export(tmp_path / "a", tmp_path / "a.safetensors", half=False)
    generator, _ = load_generator(tmp_path / "a.safetensors")
    second = Trainer(tiny(seed=5), CPU, init=generator)
    assert torch.equal(second.generator.model[1].ffc.convl2l.weight, first.trainer.average.model[1].ffc.convl2l.weight)
    assert torch.equal(second.average.model[1].bn_l.running_mean, first.trainer.average.model[1].bn_l.running_mean)


def test_another_configuration_does_not_resume(folder, tmp_path):
    make(tiny(), folder, tmp_path).save()
    with pytest.raises(InputError, match="another losses"):
        make(tiny(losses=LossConfig()), folder, tmp_path).resume()
    make(tiny(steps=99), folder, tmp_path).resume()  # only longer
    data = dataclasses.replace(tiny().data, workers=1)
    make(tiny(data=data), folder, tmp_path).resume()  # prepared otherwise, but the same
    with pytest.raises(InputError, match="another perceptual loss"):
        make(tiny(), folder, tmp_path, perceptual=Features()).resume()
    photos = keep_photos(folder, tmp_path / "cache", side=96, min_side=64, on_skip=print)
    fewer = Run(tiny(), Trainer(tiny(), CPU), photos.only([0, 1, 2]), photos.only([3]), tmp_path, print)
    with pytest.raises(InputError, match="another held-out photos, photos"):
        fewer.resume()


def test_what_is_known_of_refinement_is_exported_again(folder, tmp_path):
    first = make(tiny(), folder, tmp_path / "a", header={"learning_rate": "0.03"})
    first.train(steps=1)
    resumed = make(tiny(), folder, tmp_path / "a")
    resumed.resume()
    resumed.save()
    export(tmp_path / "a", tmp_path / "m.safetensors", half=True)
    assert load_generator(tmp_path / "m.safetensors")[1]["learning_rate"] == "0.03"
    export(tmp_path / "a", tmp_path / "folder", half=False)
    opened = load_model(str(tmp_path / "folder"))
    assert (opened.spec.train_size, opened.spec.learning_rate) == (tiny().data.crop, 0.03)
    (tmp_path / "folder" / "config.yaml").write_text("[")  # its sizes are not trusted, nor is it needed
    assert load_model(str(tmp_path / "folder")).spec.train_size == 512


def test_exports_are_refused_before_the_training(folder, tmp_path, config_file):
    common = ["--config", config_file, "--data", folder, "--out", tmp_path / "out", "--device", "cpu"]
    (tmp_path / "m.safetensors").write_bytes(b"mine")
    (tmp_path / "m.ckpt").write_bytes(b"mine")
    for target in ("m.safetensors", "m.ckpt", "m.ckpt/below"):
        result = call(*common, "--export", tmp_path / target)
        assert result.exit_code == 2
        assert target in result.output
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "m.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_damaged_states_are_named(folder, tmp_path, content):
    run = make(tiny(), folder, tmp_path)
    if content is None:
        torch.save({"step": 1}, tmp_path / "state.pt")
    else:
        (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"state\.pt"):
        run.resume()


@pytest.mark.parametrize("name", ["lama-small", "lama-fourier", "big-lama"])
def test_configurations_are_valid_and_of_their_size(name):
    config = load_config(config_folder("training") / f"{name}.yaml")
    expected = {"lama-small": (32, 6), "lama-fourier": (64, 9), "big-lama": (64, 18)}
    assert (config.generator.ngf, config.generator.n_blocks) == expected[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"crop": 60}}, r"data\.crop"),
        ({"data": {"batch": 0}}, r"data\.batch"),
        ({"losses": {"adversial": 1}}, "unknown key adversial"),
        ({"precision": "half"}, "precision"),
        ({"steps": "many"}, "steps: expected a whole number"),
        ({"generator": {"ngf": 16}}, "generator: expected ngf"),
        ({"generator": {"n_downsampling": 0}}, "generator: expected ngf"),
        ({"optimizer": {"ema": 1.0}}, r"optimizer\.ema"),
        ({"optimizer": {"betas": 3}}, "betas: expected"),
        ({"optimizer": {"generator_lr": -1.0}}, "generator_lr"),
        ({"optimizer": {"discriminator_lr": float("nan")}}, "discriminator_lr"),
        ({"optimizer": {"warmup": 2.0}}, "warmup"),
        ({"losses": {"hole_l1": -1.0}}, "losses: expected weights"),
        ({"losses": {"adversarial": float("inf")}}, "losses: expected weights"),
        ({"data": {"max_zoom_out": float("inf")}}, r"data\.max_zoom_out"),
        ({"data": {"held_out": 0.0}}, r"data\.held_out"),
        ({"discriminator": {"ndf": 0}}, "discriminator"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_settings_are_named(tmp_path, change, message):
    values = yaml.safe_load((config_folder("training") / "lama-small.yaml").read_text())
    for key, value in change.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SettingsError, match=message):
        load_config(tmp_path / "c.yaml")


@pytest.fixture
def config_file(tmp_path):
    values = dataclasses.asdict(tiny())
    values["optimizer"]["betas"] = list(values["optimizer"]["betas"])
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_command_trains_exports_and_refuses_to_start_over(folder, tmp_path, config_file):
    out = tmp_path / "out"
    common = ["--config", config_file, "--data", folder, "--out", out, "--device", "cpu"]
    result = call(*common, "--steps", 2, "--export", tmp_path / "m.safetensors")
    assert result.exit_code == 0, result.output
    generator, header = load_generator(tmp_path / "m.safetensors")
    assert generator.config == tiny().generator
    assert "learning_rate" not in header
    again = call(*common)
    assert again.exit_code == 2
    assert "--resume" in again.output
    assert call(*common, "--steps", 3, "--resume").exit_code == 0
    assert call("--out", out, "--export", tmp_path / "n.safetensors", "--full").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "o"], "--data"),
        (["--out", "o", "--data", "."], "--config"),
        (["--out", "o", "--data", "no", "--config", "{config}"], "no: expected a folder"),
        (["--out", "o", "--data", "{folder}", "--config", "no.yaml"], "no.yaml"),
        (["--out", "o", "--data", "{folder}", "--config", "{config}", "--init", "lama-small"], "lama-small: is a"),
        (["--out", "o", "--data", "{folder}", "--config", "{config}", "--init", "no.ckpt"], "no.ckpt"),
        (["--out", "o", "--data", "{folder}", "--config", "{config}", "--perceptual-weights", "no.pth"], "no.pth"),
        (["--out", "o", "--data", "{folder}", "--config", "{config}", "--resume"], "state.pt"),
        (["--out", "o", "--export", "x.safetensors"], "state.pt"),
        (["--out", "o", "--data", "{folder}", "--config", "{config}", "--resume", "--init", "lama-small"], "--init"),
    ],
)
def test_bad_input_is_one_line(folder, tmp_path, config_file, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = call(*(a.format(folder=folder, config=config_file) for a in arguments))
    assert result.exit_code == 2
    line = result.output.strip().splitlines()[-1]
    assert words in line
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGINT, 2)])
def test_a_stopped_training_saves_its_state(folder, tmp_path, config_file, number, workers):
    out = tmp_path / "out"
    config_file.write_text(config_file.read_text().replace("workers: 0", f"workers: {workers}"))
    command = [sys.executable, "-m", "lama.training", "--config", config_file, "--data", folder, "--out", out]
    process = subprocess.Popen(
        [*command, "--steps", "100000", "--device", "cpu"],
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (out / "state.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, number)  # as a terminal does: workers and all
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"--resume" in said
    state = read_state(out)
    assert state["trainer"]["step"] >= 3
