"""The speed benchmark runs on a small network and says what it measured."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from conftest import GOLDEN

from benchmarks.overhead import Counted
from benchmarks.speed import main


@pytest.mark.parametrize(
    ("case", "rows"), [("update", 2), ("descent", 1), ("plain", 1), ("refinement", 1), ("default", 1), ("overhead", 1)]
)
def test_each_case_gives_its_rows(case, rows, tmp_path) -> None:
    path = tmp_path / "rows.json"
    done = CliRunner().invoke(
        main,
        ["--sizes", "128x96", "--cases", case, "--methods", "frozen,autograd", "--precisions", "float32,tf32",
         "--steps", "4", "--windows", "off", "--repeats", "1", "--model", str(GOLDEN), "--device", "cpu",
         "--keep-freed", "--json", str(path)],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(path.read_text())["rows"]
    assert [(row["what"], row["width"], row["height"]) for row in found] == [(case, 128, 96)] * rows
    assert all(row["seconds"] > 0 for row in found)
    assert f"| {case} |" in done.output
    assert "tf32: left out (precision: tf32 needs an NVIDIA GPU" in done.output


def test_refinements_say_how_busy_the_cores_were_and_what_they_reached(tmp_path) -> None:
    path = tmp_path / "rows.json"
    done = CliRunner().invoke(
        main,
        ["--sizes", "736x736", "--cases", "refinement,default", "--precisions", "float32", "--steps", "2",
         "--windows", "off", "--model", str(GOLDEN), "--device", "cpu",
         "--keep-freed", "--json", str(path)],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    two, default = json.loads(path.read_text())["rows"]
    for row in (two, default):
        assert 0 <= row["kernel_share"] < 1
        assert row["cores"] > 0
        assert row["faults"] is None or row["faults"] > 0
    assert default["objective"] < two["objective"], "more predictions come nearer to the guide"


def test_the_overhead_of_a_call_is_counted_and_timed(tmp_path) -> None:
    path = tmp_path / "rows.json"
    done = CliRunner().invoke(
        main,
        ["--sizes", "256x192", "--cases", "overhead", "--precisions", "float32", "--model", str(GOLDEN),
         "--device", "cpu", "--keep-freed", "--json", str(path)],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (row,) = json.loads(path.read_text())["rows"]
    found = row["overhead"]
    assert found["later_plan"] < 0.5 * found["first_plan"]
    assert found["copy_again"] > 0
    assert row["seconds"] == found["before"] + found["after"] > 0
    assert 100 < found["operations"] < 1000, "of a network of two blocks"
    assert found["waits"] == 0


def test_values_read_from_a_device_are_counted_as_waits() -> None:
    meta, host = torch.empty(3, device="meta"), torch.ones(3)
    with Counted() as counted:
        host.to("meta")
        meta.copy_(host)
        host + host
        host.sum().item()  # as Adam reads how many steps it made
        torch.ones(1, dtype=torch.int64).item()
    assert counted.waits == 3
    assert counted.operations > counted.waits
