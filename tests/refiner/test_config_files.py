from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from refiner.config_files import build, config_names, find_config, read_mapping
from refiner.errors import SettingsError


@dataclass(frozen=True)
class Inner:
    ratio: float = 1.0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    count: int
    on: bool = False
    inner: Inner | None = None
    other: Inner = field(default_factory=Inner)


def test_nested_values_are_converted():
    made = build(Outer, {"count": 3, "inner": {"ratio": "1e-3", "names": ["a", "b"]}, "other": {"ratio": 2}}, "f")
    assert made == Outer(3, inner=Inner(0.001, ("a", "b")), other=Inner(2.0))
    assert build(Outer, {"count": 1, "inner": None}, "f").inner is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 1, "color": 2}, "f: unknown key color; expected count, on, inner, other"),
        ({}, "f: count must be given"),
        ({"count": True}, "f: count: expected a whole number, got True"),
        ({"count": 1.5}, "f: count: expected a whole number, got 1.5"),
        ({"count": 1, "on": 1}, "f: on: expected true or false, got 1"),
        ({"count": 1, "inner": {"ratio": "much"}}, "f: inner: ratio: expected a number, got 'much'"),
        ({"count": 1, "inner": {"names": [1]}}, "f: inner: names: expected text, got 1"),
        ({"count": 1, "other": None}, "f: other: expected lines of `key: value`, got None"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(values, message):
    with pytest.raises(SettingsError) as caught:
        build(Outer, values, "f")
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"- 1", b"text"])
def test_unreadable_files_are_named(tmp_path, content):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"c\.yaml"):
        read_mapping(path)


def test_files_are_found_by_name_or_path(tmp_path):
    assert "thick" in config_names("masks")
    assert find_config("thick", "mask kind", "masks").name == "thick.yaml"
    (tmp_path / "own.yaml").write_text("")
    assert find_config(str(tmp_path / "own.yaml"), "mask kind", "masks") == tmp_path / "own.yaml"
    assert read_mapping(tmp_path / "own.yaml") == {}
