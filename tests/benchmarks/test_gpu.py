"""The parts of `benchmarks.gpu` bring back what they got, whatever happens to them."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks import report, zoo
from benchmarks.gpu import __main__ as program
from benchmarks.gpu.part import Part
from benchmarks.gpu.results import Results
from latentd.models.checkpoint import Checkpoint
from tests.conftest import eventually, points_spec

SLOW = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, file=sys.stderr, flush=True)
time.sleep(600)
"""


@pytest.fixture
def results(tmp_path: Path) -> Results:
    results = Results(tmp_path)
    results.begin(report.machine())
    return results


def part_of(results: Results, seconds: float = 600.0) -> Part:
    return Part("serving", torch.device("cpu"), True, results, time.monotonic() + seconds)


def found_in(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / "gpu.json").read_text())["results"]
    return found


def test_each_result_is_in_both_files_at_once(results: Results, tmp_path: Path) -> None:
    part_of(results).measure("first", lambda: {"images/s": 12.0, "by batch": {"16": 1.0}}, 1.0)
    assert [each["what"] for each in found_in(tmp_path)] == ["first"]
    assert found_in(tmp_path)[0]["by batch"] == {"16": 1.0}
    part_of(Results(tmp_path)).measure("second", lambda: {"same bits": True}, 1.0)  # as another process does
    assert [each["what"] for each in found_in(tmp_path)] == ["first", "second"]
    text = (tmp_path / "gpu.md").read_text()
    assert "| serving | first | images/s 12, seconds 0 |" in text
    assert "| serving | second | same bits yes, seconds 0 |" in text


def test_a_measurement_that_fails_ends_no_other(results: Results, tmp_path: Path) -> None:
    part = part_of(results)
    assert part.measure("broken", lambda: {"images/s": 1 / 0}, 1.0) == {}
    assert part.measure("whole", lambda: {"images/s": 5}, 1.0) == {"images/s": 5}
    assert found_in(tmp_path)[0]["failed"] == "ZeroDivisionError: division by zero"
    with pytest.raises(SystemExit) as end:
        part.finish()
    assert end.value.code


def test_what_there_is_no_time_for_is_left_out(results: Results, tmp_path: Path) -> None:
    part = part_of(results, seconds=5.0)
    assert part.measure("long", pytest.fail, 60.0) == {}
    assert "it takes about 60 s" in str(found_in(tmp_path)[0]["left out"])
    with pytest.raises(SystemExit) as end:
        part.finish()
    assert not end.value.code


def test_a_part_whose_time_is_over_is_ended_with_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "command", lambda *_: [sys.executable, "-c", SLOW])
    monkeypatch.setattr(program, "_GRACE_SECONDS", 1.0)
    ended = program.run_part("serving", 4.0, argparse.Namespace(results=tmp_path, device="cpu"))
    assert ended["ended"] == "its time was over"
    child = int((tmp_path / "gpu-serving.log").read_text())
    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_the_end_of_a_broken_parts_log_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "command", lambda *_: [sys.executable, "-c", "raise SystemExit('no such device')"])
    ended = program.run_part("serving", 60.0, argparse.Namespace(results=tmp_path, device="cpu"))
    assert ended["ended"] == "with status 1; see gpu-serving.log"
    assert ended["log"]["end"] == "no such device\n"


@pytest.mark.slow
def test_the_zoo_goes_on_where_it_was(tmp_path: Path) -> None:
    file, seconds = None, 8.0
    while file is None:  # a busy machine may need longer to begin
        assert zoo.train("ring-gan", tmp_path, "cpu", seconds, ["steps=1000000"]) == ""
        file, seconds = zoo.best_of(tmp_path, "ring-gan"), 2 * seconds
    before = zoo.describe(file, torch.device("cpu"), 1, tmp_path / "zoo")
    assert zoo.train("ring-gan", tmp_path, "cpu", seconds, ["steps=1000000"]) == ""
    assert Checkpoint.read(tmp_path / "ring-gan.safetensors").card.steps > before["steps"]


def test_the_table_shows_what_was_trained_and_what_was_not(tmp_path: Path) -> None:
    assert zoo.train("ring-gan", tmp_path, "cpu", 600, ["steps=5"]) == ""
    file = zoo.best_of(tmp_path, "ring-gan")
    assert file is not None
    found = zoo.describe(file, torch.device("cpu"), 1, tmp_path / "zoo")
    assert (tmp_path / found["picture"]).is_file()
    text = zoo.table({"ring-gan": found, "fashion-dcgan": {"problem": "no data | here"}})
    assert "| ring-gan | ring |" in text
    assert "| 5 of 5 |" in text
    assert f"modes {found['evaluation']['metrics']['modes']:.4g} (8)" in text
    assert "| fashion-dcgan |  |  |  |  |  | no data / here |  |" in text


def test_a_generator_is_evaluated_once(
    tmp_path: Path, write: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(points_spec(), settings={"data": {"name": "ring"}})
    file = tmp_path / "model.safetensors"
    first = zoo.evaluate(file, torch.device("cpu"), 1)
    monkeypatch.setattr(zoo, "evaluate_generator", pytest.fail)
    assert zoo.evaluate(file, torch.device("cpu"), 1) == first


def test_a_recipe_that_cannot_be_trained_says_why(tmp_path: Path) -> None:
    problem = zoo.train("image-folder-dcgan", tmp_path, "cpu", 600, [])
    assert "--data" in problem
