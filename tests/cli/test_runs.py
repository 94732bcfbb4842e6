"""The command `latentd runs`."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from latentd.cli.main import latentd
from tests.training.run_directories import write_run

SETPRIV = shutil.which("setpriv")


def runs(*arguments: str | Path) -> Result:
    return CliRunner().invoke(latentd, ["runs", *map(str, arguments)])


def rows(result: Result) -> dict[str, list[str]]:
    """Return the first word of each line → the others."""
    assert result.exit_code == 0, result.output
    return {words[0]: words[1:] for line in result.output.splitlines() if (words := line.split())}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_are_listed_newest_first(here: Path) -> None:
    write_run(here / "runs" / "first", started="2026-01-01T00:00:00+00:00")
    write_run(here / "runs" / "second", started="2026-01-02T00:00:00+00:00", floors={}, best=None, status="stopped")
    best = {"name": "ring-gan-best", "step": 300, "value": 0.02}
    write_run(here / "runs" / "third", [], started="2026-01-03T00:00:00+00:00", best=best, step=0)
    (here / "runs" / "notes").mkdir()
    listed = rows(runs())
    assert list(listed) == ["run", "runs/third", "runs/second", "runs/first"]
    assert listed["runs/first"] == [
        "ring-gan",
        "finished",
        "400",
        "/",
        "400",
        "0:01:12",
        "divergence",
        "0.03",
        "3",
        "modes",
        "lost",
        "(200)",
    ]
    assert listed["runs/second"][1] == "stopped"
    assert listed["runs/second"][-6:] == ["divergence", "0.03", "–", "modes", "lost", "(200)"]
    assert listed["runs/third"][2:] == ["0", "/", "400", "0:01:12", "divergence", "0.02", "2", "–"]


def test_without_runs_there_is_a_hint(here: Path) -> None:
    assert "latentd train" in runs().output
    assert json.loads(runs("--json").output) == []


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({"host": platform.node(), "pid": os.getpid()}, "killed"),  # another process may have this number now
        ({"host": "elsewhere"}, "running?"),
        ({}, "running?"),
    ],
)
def test_killed_runs_are_recognised(facts: dict[str, object], status: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path, status="running", step=0, **facts)
    (run,) = json.loads(runs(folder, "--json").output)
    assert (run["status"], run["step"]) == (status, 400)


def test_runs_are_compared(here: Path) -> None:
    write_run(here / "one")
    other = {"steps": 400, "generator": {"latent": {"dim": 64}}}
    write_run(here / "other", [{"step": 400, "seconds": 4.0, "figures": {"divergence": 0.5}}], settings=other, seed=7)
    compared = rows(runs("one", "other"))
    assert compared["one"] == ["other"]
    assert compared["divergence"] == ["0.03", "(0.01)", "0.5", "(0.01)"]
    assert compared["modes"] == ["8", "–"]
    assert compared["generator.latent.dim"] == ["2", "64"]
    assert compared["seed"] == ["0", "7"]
    assert compared["steps"] == [
        "400",
        "/",
        "400",
        "400",
        "/",
        "400",
    ]  # once: the row of the setting is left out, because it is the same in both
    assert list(compared) == [
        "one",
        "status",
        "steps",
        "time",
        "alarms",
        "divergence",
        "modes",
        "seed",
        "generator.latent.dim",
        "In",
    ]


def test_json_has_all_facts(tmp_path: Path) -> None:
    metrics = [{"step": 1, "seconds": 0.1, "figures": {"divergence": float("nan")}}]
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other", metrics)
    first, second = json.loads(runs(one, other, "--json").output, parse_constant=pytest.fail)
    assert (first["folder"], first["value"], first["floor"]) == (str(one), 0.03, 0.01)
    assert first["alarms"][0]["kind"] == "modes lost"
    assert first["settings"]["generator"] == {"latent": {"dim": 2}}
    assert second["figures"] == {"divergence": None}


def test_markup_and_control_characters_of_a_name_are_shown_as_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path, name="[red]x[/]\x1b[31m")
    assert r"[red]x[/]\x1b[31m" in runs(folder).output


def test_a_folder_of_runs_is_listed(here: Path) -> None:
    write_run(here / "elsewhere" / "first", started="2026-01-01T00:00:00+00:00")
    write_run(here / "elsewhere" / "second", started="2026-01-02T00:00:00+00:00")
    write_run(here / "third", started="2026-01-03T00:00:00+00:00")
    assert list(rows(runs("elsewhere"))) == ["run", "elsewhere/second", "elsewhere/first"]
    assert list(rows(runs("elsewhere/", "third"))) == ["run", "third", "elsewhere/second", "elsewhere/first"]


@pytest.mark.parametrize(
    "damage",
    [
        {"steps": "many"},
        {"step": None},
        {"wall_seconds": "long"},
        {"wall_seconds": float("inf")},
        {"floors": [0.01]},
        {"floors": {"divergence": "low"}},
        {"best": 5},
        {"best": {"value": "good"}},
        {"settings": "all"},
        {"chosen_by": ["divergence"]},
    ],
)
def test_a_damaged_run_is_listed_as_damaged(damage: dict[str, object], here: Path) -> None:
    write_run(here / "runs" / "whole")
    write_run(here / "runs" / "torn", **damage)
    listed = rows(runs())
    assert listed["runs/torn"][1] == "damaged"
    assert listed["runs/whole"][1] == "finished"
    assert rows(runs("runs/whole", "runs/torn"))["status"] == ["finished", "damaged"]
    assert {run["status"] for run in json.loads(runs("--json").stdout)} == {"damaged", "finished"}


def test_an_unreadable_run_json_is_damaged(here: Path) -> None:
    for name, content in (("torn", '{"step": 4'), ("list", "[1]"), ("text", '"run"')):
        (write_run(here / "runs" / name) / "run.json").write_text(content)
    result = runs("runs")
    assert {name: row[1] for name, row in rows(result).items() if "/" in name} == {
        "runs/torn": "damaged",
        "runs/list": "damaged",
        "runs/text": "damaged",
    }
    assert "runs/torn has no readable run.json\n" in result.stderr


def test_a_folder_without_runs_is_named_in_one_line(tmp_path: Path) -> None:
    result = runs(write_run(tmp_path / "one"), tmp_path / "none")
    assert result.exit_code == 2
    assert result.output == f"error: {tmp_path / 'none'} is no run folder and contains none: there is no run.json\n"


@pytest.mark.skipif(os.geteuid() == 0 and not SETPRIV, reason="root opens every folder, and there is no setpriv")
def test_a_folder_that_may_not_be_opened_is_listed_as_damaged_beside_the_others(tmp_path: Path) -> None:
    write_run(tmp_path / "one")
    (tmp_path / "locked").mkdir(mode=0)
    rights = (SETPRIV, "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 and SETPRIV else ()
    done = subprocess.run(
        [*rights, Path(sys.executable).with_name("latentd"), "runs", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "locked") in done.stderr
    listed = {words[0]: words[2] for line in done.stdout.splitlines()[1:] if (words := line.split())}
    assert listed.keys() == {str(tmp_path / "one"), str(tmp_path / "locked")}
    assert listed[str(tmp_path / "locked")] == "damaged"
