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
        refine=True, start="model", detail="features", min_side=512, max_scales=3, steps=15, lr=0.002,
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
        ("stepz: 3", "unknown key stepz; expected refine, start, detail, min_side"),
        ("steps: many", "steps: expected a whole number from 1, or several in a list, the smallest scale first, got"),
        ("steps: true", "steps: expected"),
        ("steps: []", "steps: expected"),
        ("steps: [8, 0]", "steps: expected"),
        ("steps: [8, [4]]", "steps: expected"),
        ("steps: 12,8", "steps: expected a whole number from 1, or several in a list"),
        ("back_projection: -1", "back_projection: expected a whole number from 0, got -1"),
        ("back_projection: 0.5", "back_projection: expected"),
        ("back_projection: true", "back_projection: expected"),
        ("steps: 0", "steps: expected"),
        ("lr: 0", "lr: expected a number above 0, up to 1e6, or null"),
        (f"lr: {'9' * 400}", "lr: expected"),
        ("lr: 2001-99-99", "not readable as YAML"),
        ("lr: " + "[" * 3000, "not readable as YAML"),
        ("lr: .nan", "lr: expected"),
        ("lr: .inf", "lr: expected"),
        ("blend_rim: 1", "blend_rim: expected true or false"),
        ("match_color: lab", "match_color: expected auto or on or off, got 'lab'"),
        ("seed: -1", "seed: expected a whole number from 0 to 4294967295, got -1"),
        ("seed: 4294967296", "seed: expected"),
        ("seed: 1.5", "seed: expected"),
        ("grain: fine", "grain: expected true or false"),
        ("min_side: 8", "min_side: expected a whole number from 16 or null"),
        ("max_scales: 0", "max_scales: expected"),
        ("pixel_budget: 1.5", "pixel_budget: expected"),
        ("keep: first", "keep: expected best or last"),
        ("windows: on", "windows: expected auto or off, got True"),
        ("precision: float16", "precision: expected auto or float32 or tf32 or bfloat16"),
        ("memory: much", "memory: expected a size such as 6GB or null, got 'much'"),
        ("memory: 0GB", "memory: expected"),
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


@pytest.mark.parametrize(("written", "meant"), [("true", "on"), ("on", "on"), ("off", "off"), ("auto", "auto")])
def test_what_yaml_reads_as_a_switch_is_one(tmp_path, written, meant) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"match_color: {written}\n")
    assert load_preset(str(path)).match_color == meant


def test_colors_are_matched_where_it_is_refined() -> None:
    given = [Settings(refine=refine, match_color=on) for refine in (True, False) for on in ("auto", "on", "off")]
    assert [settings.matches_color for settings in given] == [True, True, False, False, True, False]


def test_an_unknown_preset() -> None:
    with pytest.raises(SettingsError, match="expected one of default, reference, or the path"):
        load_preset("fastest")


def test_steps_by_scale(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("steps: [12, 8, 4]\nback_projection: 1\n")
    settings = load_preset(str(path))
    assert settings == Settings(steps=(12, 8, 4), back_projection=1)
    assert [settings.steps_at(scale) for scale in range(5)] == [12, 8, 4, 4, 4]
    assert Settings(steps=[12, 8]).steps == (12, 8)
    assert [Settings(steps=7).steps_at(scale) for scale in (0, 3)] == [7, 7]
