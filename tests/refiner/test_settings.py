from __future__ import annotations

from dataclasses import fields

import pytest
import yaml

from refiner import Settings, SettingsError, load_preset, preset_names
from refiner.config_files import config_folder


def test_presets() -> None:
    assert preset_names() == ["default", "reference"]
    assert load_preset("default") == Settings()
    assert load_preset("reference") == Settings(
        refine=True, guide="model", detail="features", min_side=512, max_scales=3, steps=15, lr=0.002,
        pixel_budget=1_800_000, keep="last", windows="off", precision="float32",
        back_projection=0, blend_rim=False, grain=False, match_color="off",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["default", "reference"])
def test_presets_spell_out_every_field(name) -> None:
    written = yaml.safe_load((config_folder() / f"{name}.yaml").read_text())
    assert list(written) == [field.name for field in fields(Settings)]


def test_a_file_of_ones_own(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("steps: 30\nlr: 1\n")
    assert load_preset(str(path)) == Settings(steps=30, lr=1)
    path.write_text("windows: off\nlr: 1e-3\nmemory: 6000000000\n")
    assert load_preset(str(path)) == Settings(windows="off", lr=0.001, memory="6000000000")
    path.write_text("")
    assert load_preset(str(path)) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 3", "unknown key stepz; expected refine, guide, detail, min_side"),
        ("steps: many", "steps: expected a whole number from 1, or several in a list, the smallest scale first, got"),
        ("steps: true", "steps: expected"),
        ("steps: []", "steps: expected"),
        ("steps: [8, 0]", "steps: expected"),
        ("steps: [8, [4]]", "steps: expected"),
        ("steps: 12,8", "steps: expected a whole number from 1, or several in a list"),
        ("min_gain: 0", "min_gain: expected a number between 0 and 1, or null, got 0"),
        ("min_gain: 1", "min_gain: expected"),
        ("min_gain: true", "min_gain: expected"),
        ("back_projection: -1", "back_projection: expected a whole number from 0, got -1"),
        ("back_projection: 0.5", "back_projection: expected"),
        ("back_projection: true", "back_projection: expected"),
        ("steps: 0", "steps: expected"),
        ("lr: 0", "lr: expected a number above 0, up to 1e6, or null"),
        (f"lr: {'9' * 400}", "lr: expected"),
        ("lr: 2001-99-99", "not readable as YAML"),
        ("lr: " + "[" * 3000, "not readable as YAML"),
        ("context: 1.0e+308", "context: expected"),
        ("erosion: 257", "erosion: expected an odd whole number from 1 to 255"),
        ("lr: .nan", "lr: expected"),
        ("lr: .inf", "lr: expected"),
        ("erosion: 4", "erosion: expected an odd whole number from 1 to 255, got 4"),
        ("erosion: -1", "erosion: expected"),
        ("guide_weight: -0.5", "guide_weight: expected a number from 0 to 1e6, got -0.5"),
        ("guide_weight: true", "guide_weight: expected"),
        ("texture_weight: -1", "texture_weight: expected a number from 0 to 1e6, got -1"),
        ("balance: 1.5", "balance: expected a number from 0 to 1, got 1.5"),
        ("balance: -0.1", "balance: expected"),
        ("guide_region: hard", "guide_region: expected eroded or soft"),
        ("blend_rim: 1", "blend_rim: expected true or false"),
        ("match_color: lab", "match_color: expected auto or off or mean or smooth, got 'lab'"),
        ("seed: -1", "seed: expected a whole number from 0 to 4294967295, got -1"),
        ("seed: 4294967296", "seed: expected"),
        ("seed: 1.5", "seed: expected"),
        ("grain: fine", "grain: expected true or false"),
        ("min_side: 8", "min_side: expected a whole number from 16 or null"),
        ("max_scales: 0", "max_scales: expected"),
        ("pixel_budget: 1.5", "pixel_budget: expected"),
        ("keep: first", "keep: expected best or last"),
        ("windows: on", "windows: expected auto or split or off, got True"),
        ("precision: float16", "precision: expected auto or float32 or tf32 or bfloat16"),
        ("memory: much", "memory: expected a size such as 6GB or null, got 'much'"),
        ("memory: 0GB", "memory: expected"),
        ("context: -1", "context: expected a number above 0"),
        ("refine: 1", "refine: expected true or false"),
        ("- steps", "expected lines of `key: value`, got a list"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_bad_presets_name_the_file_and_the_key(tmp_path, text, message) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_preset(str(path))
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "meant"), [("true", "mean"), ("false", "off"), ("off", "off"), ("mean", "mean"), ("smooth", "smooth")]
)
def test_match_color_may_be_written_as_it_was(tmp_path, written, meant) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"match_color: {written}\n")
    assert load_preset(str(path)).match_color == meant
    assert Settings(match_color=True) == Settings(match_color="mean")


def test_an_unknown_preset() -> None:
    with pytest.raises(SettingsError, match="expected one of default, reference, or the path"):
        load_preset("fastest")


def test_old_names_are_read_with_a_warning(tmp_path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("leaf_rates: {skips: 0.5}\n")
    with pytest.warns(FutureWarning, match="leaf_rates is called lr_scale now") as caught:
        assert load_preset(str(path)) == Settings(lr_scale={"skips": 0.5})
    assert len(caught) == 1


def test_steps_by_scale(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("steps: [12, 8, 4]\nmin_gain: 1e-1\nback_projection: 1\n")
    settings = load_preset(str(path))
    assert settings == Settings(steps=(12, 8, 4), min_gain=0.1, back_projection=1)
    assert [settings.steps_at(scale) for scale in range(5)] == [12, 8, 4, 4, 4]
    assert Settings(steps=[12, 8]).steps == (12, 8)
    assert [Settings(steps=7).steps_at(scale) for scale in (0, 3)] == [7, 7]
