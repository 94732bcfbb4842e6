"""What a run leaves to be read: `run.json`, `metrics.jsonl`, samples as they were, and TensorBoard's events.

Each can be read while the run goes on. A run that goes on from a state drops what had been written past it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from tensorboardX import SummaryWriter

from models.files import replacing

_FACTS, _MOMENTS, _SAMPLES = "run.json", "metrics.jsonl", "samples"
NEAREST = "nearest"
_EVENTS = "events.out.tfevents.*"


class RunFolder:
    """Writes them. `at_step` is where the run goes on from; what was written of later steps is dropped."""

    def __init__(self, path: Path, at_step: int, facts: Mapping[str, JsonValue]) -> None:
        self._path = path
        self._facts = dict(facts)
        kept = [moment for moment in read_moments(path) if moment["step"] <= at_step]
        kept = [moment for moment in kept if moment["step"] < at_step or "figures" not in moment]  # it is judged again
        with replacing(path / _MOMENTS) as temporary:
            temporary.write_text("".join(_line(moment) for moment in kept))
        for picture in pictures(path):
            if step_of(picture) > at_step:
                picture.unlink()
        if not at_step:
            for events in path.glob(_EVENTS):
                events.unlink()
        self._moments = (path / _MOMENTS).open("a", buffering=1)
        self._events = SummaryWriter(str(path), purge_step=at_step + 1 if at_step else None)
        self.state()

    def state(self, **facts: JsonValue) -> None:
        """Write `run.json` with these facts in the place of what it said of them."""
        self._facts |= facts
        with replacing(self._path / _FACTS) as temporary:
            temporary.write_text(json.dumps(self._facts, indent=2, ensure_ascii=False) + "\n")

    def note(self, step: int, seconds: float, kind: str, values: Mapping[str, Any]) -> None:
        """Add a moment to `metrics.jsonl`, and its numbers to TensorBoard's curves."""
        self._moments.write(_line({"step": step, "seconds": round(seconds, 2), kind: dict(values)}))
        for name, value in values.items():
            if isinstance(value, float):
                self._events.add_scalar(f"{kind}/{name}", value, step)

    def keep_samples(self, step: int, content: bytes, suffix: str) -> None:
        """Keep how samples of always the same latents look at this step."""
        path = self._path / _SAMPLES / f"{step:08d}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    def keep_nearest(self, picture: bytes, distances: Mapping[str, JsonValue]) -> None:
        """Keep samples beside the nearest of what they were learnt from."""
        (self._path / f"{NEAREST}.png").write_bytes(picture)
        (self._path / f"{NEAREST}.json").write_text(json.dumps(distances) + "\n")

    def close(self, **facts: JsonValue) -> None:
        """Put all on the disk, with these last facts."""
        self._moments.close()
        self._events.close()
        self.state(**facts)


def _line(moment: Mapping[str, Any]) -> str:
    return json.dumps(moment) + "\n"


def read_facts(path: Path) -> dict[str, Any] | None:
    """What `run.json` says; None where there is none that can be read."""
    try:
        facts: dict[str, Any] = json.loads((path / _FACTS).read_text())
    except (OSError, ValueError):
        return None
    return facts


def read_moments(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of `metrics.jsonl`, in order; a last one that was torn is left out."""
    try:
        lines = (path / _MOMENTS).read_text().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def pictures(path: Path) -> list[Path]:
    """Files of samples, in the order of their steps."""
    return sorted((path / _SAMPLES).glob("[0-9]*.*"))


def step_of(picture: Path) -> int:
    """The step that a file of samples is of."""
    return int(picture.stem)
