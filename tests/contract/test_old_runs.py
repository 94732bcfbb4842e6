"""Runs that commit 778f070 stopped at step 6 of 12 can still be listed, continued and reported.

Beside each is `finished.safetensors`: what that commit made when it continued the run.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from latentd.cli.main import latentd

OLD = Path(__file__).with_name("old_runs")
NAMES = sorted(path.name for path in OLD.iterdir())
STOPPED, STEPS = 6, 12
# The last bits of weights differ between CPUs. Six steps change weights by 5e-3 and more.
TOLERANCE = 1e-3


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / request.param, tmp_path / request.param))


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(latentd, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def facts_of(folder: Path) -> dict[str, Any]:
    (facts,) = json.loads(run("runs", folder / "run", "--json"))
    return dict(facts)


def lines(folder: Path) -> list[str]:
    return (folder / "run" / "metrics.jsonl").read_text().splitlines()


def test_old_runs_are_there() -> None:
    assert NAMES == ["old-gan", "old-normal", "old-vae"]


def test_an_old_run_is_listed(folder: Path) -> None:
    stored = json.loads((folder / "run" / "run.json").read_text())
    facts = facts_of(folder)
    assert (facts["name"], facts["status"], facts["step"], facts["steps"]) == (folder.name, "stopped", STOPPED, STEPS)
    assert facts["version"] == stored["version"]
    assert facts["floor"] == stored["floors"]["divergence"]
    assert f'"divergence": {facts["value"]}' in lines(folder)[-1]


def test_an_old_run_continues_where_it_stopped(folder: Path) -> None:
    before = lines(folder)
    run("train", folder / f"{folder.name}.toml", "--out", folder / "run", "--device", "cpu")
    after = lines(folder)
    assert after[: len(before)] == before
    steps = [each["step"] for each in map(json.loads, after) if "losses" in each]
    assert steps == list(range(1, STEPS + 1))
    assert facts_of(folder)["status"] == "finished"
    weights, expected = (
        load_file(folder / "run" / f"{folder.name}.safetensors"),
        load_file(folder / "finished.safetensors"),
    )
    assert weights.keys() == expected.keys()
    for name, values in expected.items():
        assert np.abs(weights[name] - values).max() <= TOLERANCE, name
    report = (folder / "run" / "report.html").read_text()
    for line in map(json.loads, before):
        for value in line.get("vitals", {}).values():
            assert str(value) in report
