"""Where results go, and what machine they are of."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.processes import ROOT
from latentd.models.hardware import choose_device, core_count, describe_device, memory_bytes

RESULTS = ROOT / "benchmarks" / "results"
_NAMED = ("torch", "bentoml", "uvicorn", "uvloop", "imagecodecs", "litserve")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    device = choose_device("auto")
    return {
        "device": describe_device(device),
        "cores": core_count(),
        "memory_gb": round(memory_bytes(torch.device("cpu")) / 1e9),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _NAMED},
        "load_before": [round(each, 2) for each in os.getloadavg()],
        "commit": _commit(),
        "command": "python -m " + " ".join([_module(), *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(name: str, results: dict[str, Any], table: str) -> None:
    """Write `results` as NAME.json and `table` as NAME.md, and print the table."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    facts = results["machine"]
    where = f"{facts['cores']} cores, {facts['device']}; {facts['system']}; commit {facts['commit']}; {facts['date']}"
    text = f"# {name}\n\n`{facts['command']}`\n\n{where}\n\n{table}\n"
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)  # noqa: T201  # its answer


def markdown(head: list[str], rows: list[list[Any]]) -> str:
    """A table; floats with three significant digits or none after the point."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else sys.argv[0]


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607  # the git of whoever runs this
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
