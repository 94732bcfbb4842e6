"""Options that every program has, the description of the machine, and the files that results go to."""

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.processes import ROOT
from latentd.models.hardware import choose_device, core_count, describe_device, memory_bytes

_RESULTS = ROOT / "benchmarks" / "results"
_PACKAGES = ("torch", "bentoml", "uvicorn", "uvloop", "imagecodecs", "litserve")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options `--smoke` and `--results`; `description` is the program's docstring."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--smoke", action="store_true", help="smallest sizes: a test of the program, whose figures mean nothing"
    )
    options.add_argument("--results", type=Path, default=_RESULTS, help="folder for the JSON and Markdown files")
    return options


def parse(options: argparse.ArgumentParser, **smallest: Any) -> argparse.Namespace:
    """Parse the command line. `--smoke` takes the place of the defaults that are named in `smallest`."""
    chosen = options.parse_known_args()[0]
    if chosen.smoke:
        if chosen.results == _RESULTS:
            options.error("--smoke needs --results: its figures must not replace real ones")
        options.set_defaults(**smallest)
    return options.parse_args()


def machine() -> dict[str, Any]:
    """Return what the figures depend on: the hardware, versions, load and command."""
    device = choose_device("auto")
    return {
        "device": describe_device(device),
        "cores": core_count(),
        "memory_gb": round(memory_bytes(torch.device("cpu")) / 1e9),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "commit": _commit(),
        "command": "python -m " + " ".join([_module(), *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(folder: Path, name: str, results: dict[str, Any], table: str) -> None:
    """Write `results` as NAME.json and `table` as NAME.md into `folder`, and print the table."""
    print(save(folder, name, results, table))  # noqa: T201  # its answer


def save(folder: Path, name: str, results: dict[str, Any], table: str) -> str:
    """Write `results` as NAME.json and `table` as NAME.md into `folder`. Return the text of NAME.md."""
    facts = results["machine"]
    where = f"{facts['cores']} cores, {facts['device']}; {facts['system']}; commit {facts['commit']}; {facts['date']}"
    text = f"# {name}\n\n`{facts['command']}`\n\n{where}\n\n{table}\n"
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / f"{name}.json", json.dumps(results, indent=1) + "\n")
    _replace(folder / f"{name}.md", text)
    return text


def markdown(head: list[str], rows: list[list[Any]]) -> str:
    """Return a table. Floats have three significant digits, or no decimals from 100 on."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def ratio(value: float, of: float) -> float:
    """Return `value / of`, NaN if `of` is 0: in a smoke run on a busy machine nothing may have been answered."""
    return value / of if of else math.nan


def _replace(path: Path, text: str) -> None:
    """Write a file so that it is never there in part."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else sys.argv[0]


def _commit() -> str:
    if shutil.which("git") is None:
        return "unknown"
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607  # the user's own git
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
