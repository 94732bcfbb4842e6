"""What a run leaves to be read: `run.json`, `metrics.jsonl`, samples as they were, and TensorBoard's events.

Each can be read while the run goes on. A run that goes on from a state drops what had been written past it.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, JsonValue
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from latentd.models.errors import LatentdError
from latentd.models.files import atomic_write

_FACTS, _MOMENTS, _SAMPLES = "run.json", "metrics.jsonl", "samples"
NEAREST = "nearest"
_EVENTS = "events.out.tfevents.*"
_PICTURE = re.compile(r"\d+\.(png|json)")
_LASTING = {"started", "best", "chosen_by", "floors", "measured"}
"""What `run.json` goes on saying when a run goes on."""


class OutputError(LatentdError):
    """The run folder cannot be written to, or is another run's."""


class RunDirectory:
    """Writes them. `at_step` is where the run goes on from; what was written of later steps is dropped."""

    def __init__(self, path: Path, at_step: int, facts: Mapping[str, JsonValue]) -> None:
        self._path = path
        self._facts = dict(facts)
        kept = [moment for moment in read_metrics(path) if moment["step"] <= at_step]
        with atomic_write(path / _MOMENTS) as temporary:
            temporary.write_text("".join(_line(moment) for moment in kept))
        for picture in sample_files(path):
            if step_of(picture) > at_step:
                picture.unlink()
        if at_step:
            before = read_run_json(path) or {}
            self._facts |= {name: before[name] for name in _LASTING & before.keys()} | {"step": at_step}
        else:
            for left in (*path.glob(_EVENTS), *path.glob(f"{NEAREST}.*")):
                left.unlink()
        self._moments = (path / _MOMENTS).open("a", buffering=1)
        self._events = EventsWriter(str(path / "events"))  # itself: tensorboardX's threads hang when a disk is full
        if at_step:
            log = SessionLog(status=SessionLog.START)  # curves drop what had been written past it
            self._events.write_event(Event(wall_time=time.time(), step=at_step + 1, session_log=log))
        self.state()

    def state(self, **facts: JsonValue) -> None:
        """Write `run.json` with these facts in the place of what it said of them."""
        self._facts |= facts
        self._events.flush()
        with atomic_write(self._path / _FACTS) as temporary:
            temporary.write_text(json.dumps(self._facts, indent=2, ensure_ascii=False) + "\n")

    def note(self, step: int, seconds: float, kind: str, values: Mapping[str, Any]) -> None:
        """Add a moment to `metrics.jsonl`, and its numbers to TensorBoard's curves."""
        self._moments.write(_line({"step": step, "seconds": round(seconds, 2), kind: dict(values)}))
        for name, value in values.items():
            if isinstance(value, float):
                curve = scalar(f"{kind}/{name}".replace(" ", "_"), value)
                self._events.write_event(Event(wall_time=time.time(), step=step, summary=curve))

    def keep_samples(self, step: int, content: bytes, suffix: str) -> None:
        """Keep how samples of always the same latents look at this step."""
        with atomic_write(self._path / _SAMPLES / f"{step:08d}.{suffix}") as temporary:
            temporary.write_bytes(content)

    def keep_nearest(self, picture: bytes, distances: Mapping[str, JsonValue]) -> None:
        """Keep samples beside the nearest of what they were learnt from."""
        for suffix, content in (("png", picture), ("json", json.dumps(distances).encode())):
            with atomic_write(self._path / f"{NEAREST}.{suffix}") as temporary:
                temporary.write_bytes(content)

    def close(self, **facts: JsonValue) -> None:
        """Put all on the disk, with these last facts."""
        self.state(**facts)
        self._moments.close()
        self._events.close()


def _line(moment: Mapping[str, Any]) -> str:
    return json.dumps(moment) + "\n"


_Seconds = Annotated[float, Field(ge=0.0, le=1e10)]


class _Best(BaseModel):
    value: float = 0.0


class _Facts(BaseModel):
    """Of `run.json`, what is calculated with."""

    step: int = 0
    steps: int = 0
    wall_seconds: _Seconds = 0.0
    chosen_by: str | None = None
    floors: dict[str, float] = {}
    best: _Best | None = None
    settings: dict[str, Any] = {}


class _Alarm(BaseModel):
    kind: str


class _Moment(BaseModel):
    """Of a line of `metrics.jsonl`, the same."""

    step: int
    seconds: _Seconds = 0.0
    losses: dict[str, float] = {}
    vitals: dict[str, float] = {}
    figures: dict[str, float] = {}
    alarm: _Alarm = _Alarm(kind="")


def is_run_directory(path: Path) -> bool:
    """Whether there is a `run.json`, whatever it says."""
    return (path / _FACTS).is_file()


def read_run_json(path: Path) -> dict[str, Any] | None:
    """What `run.json` says; None where there is none that can be read, or where it says what cannot be."""
    try:
        facts: dict[str, Any] = json.loads((path / _FACTS).read_text())
        _Facts.model_validate(facts, strict=True)
    except (OSError, ValueError, RecursionError):
        return None
    return facts


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of `metrics.jsonl`, in order; what is torn, or no moment, is left out."""
    try:
        lines = (path / _MOMENTS).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            moment = json.loads(line)
            _Moment.model_validate(moment, strict=True)
        except (ValueError, RecursionError):
            continue
        yield moment


def sample_files(path: Path) -> list[Path]:
    """Files of samples, in the order of their steps."""
    return sorted(file for file in (path / _SAMPLES).glob("*.*") if _PICTURE.fullmatch(file.name))


def step_of(picture: Path) -> int:
    """The step that a file of samples is of."""
    return int(picture.stem)
