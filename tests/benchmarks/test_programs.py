"""Every benchmark program runs once in its smallest form and writes its table."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.processes import ROOT
from tests.conftest import needs_fashion

LIBRARIES = {"__init__", "abusers", "load", "processes", "report", "soak_clients"}
"""Modules that programs import or start. Every other file of the folder is a program."""
RESULTS = {"stability": ["flood", "fairness", "swaps", "endurance"]}
"""Names of the results, where they differ from the program's name."""
NEEDS = {
    "explorer": [pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium on this machine")],
    "training": [needs_fashion],
    "verdicts": [needs_fashion],
}
FOLDERS = {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")}
PROGRAMS = sorted({path.stem for path in (ROOT / "benchmarks").glob("*.py")} - LIBRARIES | FOLDERS)


@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS.get(name, ())) for name in PROGRAMS])
def test_a_program_writes_its_table(name: str, tmp_path: Path) -> None:
    run(name, "--smoke", "--results", str(tmp_path)).check_returncode()
    for result in RESULTS.get(name, [name]):
        machine = json.loads((tmp_path / f"{result}.json").read_text())["machine"]
        assert machine["command"].startswith(f"python -m benchmarks.{name} --smoke")
        title, _, table = (tmp_path / f"{result}.md").read_text().partition("\n")
        assert title == f"# {result}"
        assert "| --- |" in table or "|---|" in table


def test_serving_is_compared_with_litserve_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("litserve", reason="litserve is not installed (the extra `bench`)")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra `bench`)")
    run("serving", "--smoke", "--results", str(tmp_path)).check_returncode()
    assert "| LitServe, 1 threads |" in (tmp_path / "serving.md").read_text()
    assert (tmp_path / "serving.png").stat().st_size > 0


def test_a_smoke_run_never_replaces_real_results() -> None:
    done = run("interpolation", "--smoke", capture_output=True, text=True)
    assert done.returncode == 2
    assert "--smoke needs --results" in done.stderr


def run(name: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, timeout=900, check=False, **options)  # type: ignore[call-overload,no-any-return]
