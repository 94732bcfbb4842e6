"""The results of a run, in files that are complete after every measurement, because a run may be ended at any time."""

import json
from pathlib import Path
from typing import Any

from benchmarks import report

NAME = "gpu"
_STATE = "gpu.json"


class Results:
    """gpu.json and gpu.md in a folder. Several processes may add to them, one after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, machine: dict[str, Any]) -> None:
        """Replace the results of earlier runs."""
        self._write({"machine": machine, "results": []})

    def add(self, part: str, what: str, figures: dict[str, Any]) -> None:
        """Add one result, print it and write both files.

        `figures`: values for JSON. Numbers, texts and booleans at the top level are in the Markdown table too.
        """
        found = json.loads((self._folder / _STATE).read_text(encoding="utf-8"))
        found["results"].append({"part": part, "what": what, **figures})
        self._write(found)
        print(f"{part}: {what}: {_line(figures)}", flush=True)  # noqa: T201  # its answer

    def _write(self, found: dict[str, Any]) -> None:
        rows = [
            [each["part"], each["what"], _line({key: each[key] for key in each if key not in ("part", "what")})]
            for each in found["results"]
        ]
        report.save(self._folder, NAME, found, report.markdown(["part", "what", "found"], rows))


def _line(figures: dict[str, Any]) -> str:
    """Return the figures that fit into one cell of a table."""
    shown = {name: value for name, value in figures.items() if isinstance(value, str | int | float)}
    return ", ".join(f"{name} {_text(value)}" for name, value in shown.items())


def _text(value: str | int | float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return " ".join(value.replace("|", "/").split())[:200]
    return str(value) if isinstance(value, int) else f"{value:.4g}"
