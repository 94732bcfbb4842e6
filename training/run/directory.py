"""The files of a run: `run.json`, `metrics.jsonl` and samples of several steps.

All can be read while the run goes on. A run that resumes first drops what was written after its last saved state.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, JsonValue

from latentd.models.errors import CheckpointError, LatentdError, UsageError
from latentd.models.file_names import check_model_name
from latentd.models.files import atomic_write
from latentd.models.json_lines import JsonLinesAppender, read_json_lines, write_json_lines
from latentd.models.run_folder import RUNS

_RUN_JSON, _METRICS, _SAMPLES = "run.json", "metrics.jsonl", "samples"
NEAREST = "nearest"
_SAMPLE_FILE = re.compile(r"\d+\.(png|json)")
_KEPT_FACTS = {"started", "best", "chosen_by", "floors", "measured"}
"""Keys of `run.json` that keep their values when a run resumes."""


class OutputError(LatentdError):
    """An output directory that cannot be written to, or that belongs to something else."""


class RunNameError(OutputError, UsageError):
    """A run's name that cannot be requested, or that was given beside a folder."""


def choose_folder(recipe: str, out: Path | None, name: str | None) -> Path:
    """Return the folder of a run: `out`, or runs/NAME, or runs/RECIPE. Raises RunNameError."""
    if name is None:
        return out or RUNS / recipe
    if out is not None:
        raise RunNameError("`name` (`--name`) is the folder's name in runs/, and `out` (`--out`) is a folder: give one")
    try:
        check_model_name(name)  # the run is served as runs/NAME
    except CheckpointError as problem:
        raise RunNameError(f"name: {problem}") from problem
    return RUNS / name


class RunDirectory:
    """Writes the files of a run."""

    def __init__(self, path: Path, at_step: int, facts: Mapping[str, JsonValue]) -> None:
        """Begin at `at_step`: 0 for a new run. What older files say of later steps is dropped.

        `facts`: the first content of `run.json`.
        """
        self._path = path
        self._facts = dict(facts)
        kept = [line for line in read_metrics(path) if line["step"] <= at_step]
        write_json_lines(path / _METRICS, map(json.dumps, kept))
        for file in sample_files(path):
            if step_of(file) > at_step:
                file.unlink()
        if at_step:
            before = read_run_json(path) or {}
            self._facts |= {name: before[name] for name in _KEPT_FACTS & before.keys()} | {"step": at_step}
        else:
            for file in path.glob(f"{NEAREST}.*"):
                file.unlink()
        self._metrics = JsonLinesAppender(path / _METRICS)
        self.update()

    def update(self, **facts: JsonValue) -> None:
        """Set these facts in `run.json`."""
        self._facts |= facts
        with atomic_write(self._path / _RUN_JSON) as temporary:
            text = json.dumps(self._facts, indent=2, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")

    def log(self, step: int, seconds: float, kind: str, values: Mapping[str, Any]) -> None:
        """Append a line to `metrics.jsonl`.

        `seconds`: time since the run began. `kind`: `losses`, `vitals`, `figures`, `alarm`, or a callback's own name.
        """
        self._metrics.append(json.dumps({"step": step, "seconds": round(seconds, 2), kind: dict(values)}))

    def save_samples(self, step: int, content: bytes, suffix: str) -> None:
        """Save samples of this step as a file. The latents are the same in all steps."""
        with atomic_write(self._path / _SAMPLES / f"{step:08d}.{suffix}") as temporary:
            temporary.write_bytes(content)

    def save_nearest(self, picture: bytes, distances: Mapping[str, JsonValue]) -> None:
        """Save a picture of samples beside their nearest training images, and the distances."""
        for suffix, content in (("png", picture), ("json", json.dumps(distances).encode())):
            with atomic_write(self._path / f"{NEAREST}.{suffix}") as temporary:
                temporary.write_bytes(content)

    def close(self, **facts: JsonValue) -> None:
        """Set these last facts and close all files."""
        self.update(**facts)
        self._metrics.close()


_Seconds = Annotated[float, Field(ge=0.0, le=1e10)]


class _Best(BaseModel):
    value: float = 0.0


class _RunJson(BaseModel):
    """The keys of `run.json` that readers compute with."""

    step: int = 0
    steps: int = 0
    wall_seconds: _Seconds = 0.0
    chosen_by: str | None = None
    floors: dict[str, float] = {}
    best: _Best | None = None
    settings: dict[str, Any] = {}


class _Alarm(BaseModel):
    kind: str


class _MetricsLine(BaseModel):
    """The keys of a line of `metrics.jsonl` that readers compute with."""

    step: int
    seconds: _Seconds = 0.0
    losses: dict[str, float] = {}
    vitals: dict[str, float] = {}
    figures: dict[str, float] = {}
    alarm: _Alarm = _Alarm(kind="")


def is_run_directory(path: Path) -> bool:
    """Whether `path` has a `run.json`, readable or not. A folder that may not be opened counts as one."""
    try:
        return (path / _RUN_JSON).is_file()
    except PermissionError:
        return True


def read_run_json(path: Path) -> dict[str, Any] | None:
    """Return the content of `run.json`; None if it is missing, cannot be read, or has values of wrong types."""
    try:
        facts: dict[str, Any] = json.loads((path / _RUN_JSON).read_text(encoding="utf-8"))
        _RunJson.model_validate(facts, strict=True)
    except (OSError, ValueError, RecursionError):
        return None
    return facts


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of `metrics.jsonl`, in order. Torn lines, and lines with values of wrong types, are left out."""
    return read_json_lines(path / _METRICS, _parse_metrics)


def _parse_metrics(line: bytes) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(line)
    _MetricsLine.model_validate(values, strict=True)
    return values


def sample_files(path: Path) -> list[Path]:
    """Return the files of samples, in the order of their steps."""
    return sorted(file for file in (path / _SAMPLES).glob("*.*") if _SAMPLE_FILE.fullmatch(file.name))


def step_of(sample_file: Path) -> int:
    """Return the step of a file of samples."""
    return int(sample_file.stem)
