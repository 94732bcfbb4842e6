"""What `latentd runs` prints: a table of runs, a comparison of some, or JSON."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from latentd.models.errors import UsageError
from latentd.models.files import printable
from latentd.models.run_folder import RUNS
from latentd.training.recipes.files import flatten, with_current_names
from latentd.training.report.run_record import RunNotFound, RunRecord, json_safe
from latentd.training.report.tables import print_table
from latentd.training.run.directory import is_run_directory

_NONE = "–"


def print_runs(folders: tuple[Path, ...], as_json: bool) -> None:
    """Print the runs in runs/ or in `folders`. Several run folders are compared.

    Raises UsageError if a folder is no run folder and contains none.
    """
    paths = [path for folder in folders for path in _run_folders(folder)] if folders else _within(RUNS)
    records = {path: _read(path) for path in paths}
    are_compared = len(records) > 1 and records.keys() == set(folders)
    if not are_compared:
        by_age = sorted(records.items(), key=lambda item: str(item[1].facts.get("started", "")), reverse=True)
        records = dict(by_age)
    if as_json:
        click.echo(json.dumps(json_safe([_as_json(folder, record) for folder, record in records.items()]), indent=2))
    elif not records:
        click.echo(f"there are no runs in {RUNS}; `latentd train RECIPE` starts one")
    else:
        print_table(_comparison(records) if are_compared else _list(records))


def _run_folders(folder: Path) -> list[Path]:
    """Return `folder` if it is a run's, else the run folders in it."""
    found = [folder] if is_run_directory(folder) else _within(folder)
    if not found:
        raise UsageError(f"{folder} is no run folder and contains none: there is no run.json")
    return found


def _within(parent: Path) -> list[Path]:
    return sorted(filter(is_run_directory, parent.glob("*")))


def _read(folder: Path) -> RunRecord:
    try:
        return RunRecord.read(folder)
    except RunNotFound as problem:
        click.echo(str(problem), err=True)
        return RunRecord({"status": "damaged"}, ())


def _as_json(folder: Path, record: RunRecord) -> dict[str, Any]:
    name, value, baseline = _selection_metric(record)
    return {
        **record.facts,
        "folder": str(folder),
        "status": record.status,
        "step": record.step,
        "wall_seconds": record.seconds,
        "chosen_by": name,
        "value": value,
        "floor": baseline,
        "figures": record.latest_metrics,
        "alarms": record.alarms,
    }


def _selection_metric(record: RunRecord) -> tuple[str | None, float | None, float | None]:
    """Return the name of the metric that chooses the best generator, its value for the best, and for real samples."""
    name = record.facts.get("chosen_by")
    if name is None:
        return None, None, None
    best = record.facts.get("best") or {}
    return name, best.get("value", record.latest_metrics.get(name)), record.facts.get("floors", {}).get(name)


def _list(records: Mapping[Path, RunRecord]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "name", "status"):
        table.add_column(heading)
    for heading in ("steps", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("chosen by")
    for heading in ("value", "× baseline"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("alarms")
    for folder, record in records.items():
        name, value, baseline = _selection_metric(record)
        ratio = value / baseline if value is not None and baseline and baseline > 0 else None
        table.add_row(
            _text(folder),
            _text(record.facts.get("name", _NONE)),
            _text(record.status),
            _steps(record),
            _time(record),
            _text(name or _NONE),
            _number(value),
            _number(ratio),
            _alarms(record),
        )
    return table


def _comparison(records: Mapping[Path, RunRecord]) -> Table:
    """Return a table with a column for each run, and rows for metrics and for settings that differ."""
    caption = "In brackets: real samples (baseline)."
    table = Table(box=None, pad_edge=False, caption=caption, caption_justify="left")
    table.add_column("")
    for folder in records:
        table.add_column(_text(folder))
    columns = list(records.values())
    table.add_row("status", *(_text(record.status) for record in columns))
    table.add_row("steps", *map(_steps, columns))
    table.add_row("time", *map(_time, columns))
    table.add_row("alarms", *map(_alarms, columns))
    table.add_row()
    for name in dict.fromkeys(name for record in columns for name in record.latest_metrics):
        table.add_row(_text(name), *(_metric(record, name) for record in columns))
    table.add_row()
    settings = [_settings(record) for record in columns]
    for name in dict.fromkeys(name for each in settings for name in each):
        values = [each.get(name, _NONE) for each in settings]
        if len(set(values)) > 1:
            table.add_row(_text(name), *map(_text, values))
    return table


def _settings(record: RunRecord) -> dict[str, str]:
    """Return the settings that a run depends on: dotted key → value as JSON."""
    settings = {"seed": record.facts.get("seed"), **with_current_names(record.facts.get("settings", {}))}
    return {key: json.dumps(value) for key, value in flatten(settings).items() if key != "description"}


def _metric(record: RunRecord, name: str) -> Text:
    value, baseline = record.latest_metrics.get(name), record.facts.get("floors", {}).get(name)
    in_brackets = "" if value is None or baseline is None else f" ({baseline:.4g})"
    return Text.assemble(_number(value), (in_brackets, "dim"))


def _steps(record: RunRecord) -> str:
    return f"{record.step:,} / {record.facts['steps']:,}" if "steps" in record.facts else f"{record.step:,}"


def _time(record: RunRecord) -> str:
    return _NONE if record.seconds is None else str(timedelta(seconds=round(record.seconds)))


def _alarms(record: RunRecord) -> Text:
    return _text(", ".join(f"{alarm['kind']} ({alarm['step']:,})" for alarm in record.alarms) or _NONE)


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4g}"


def _text(value: object) -> Text:
    """Return `value` as text without markup or control characters."""
    return Text(printable(str(value)))
