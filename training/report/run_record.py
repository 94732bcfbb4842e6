"""The files of a run directory, read for reports and lists, whether the run is under way, finished or killed."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from latentd.models.errors import LatentdError
from latentd.training.run.directory import read_metrics, read_run_json
from latentd.training.run.lock import is_locked


class RunNotFound(LatentdError):
    """The folder is not a run directory; the message names it."""


@dataclass(frozen=True)
class RunRecord:
    """The content of `run.json` and `metrics.jsonl`."""

    facts: Mapping[str, Any]
    """`run.json`. Any key may be missing."""
    history: Sequence[Mapping[str, Any]]
    """The lines of `metrics.jsonl`, in order."""
    is_locked: bool = False
    """Whether a process is training in the directory."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a run directory. Raises RunNotFound if it has no readable `run.json`."""
        facts = read_run_json(folder)
        if facts is None:
            raise RunNotFound(f"{folder} has no readable run.json")
        return cls(facts, list(read_metrics(folder)), is_locked(folder))

    @property
    def status(self) -> str:
        """Return `running`, `finished`, `stopped`, `failed`, `killed`, `unknown` or `running?`.

        `running?`: the run was started on another machine, whose lock may not be visible here.
        """
        status = str(self.facts.get("status", "unknown"))
        if self.is_locked:
            return "running"
        if status != "running":
            return status
        return "killed" if self.facts.get("host") == platform.node() else "running?"

    @property
    def step(self) -> int:
        """Return the last known step. During a run, `run.json` is older than the last line of `metrics.jsonl`."""
        step: int = max(self.facts.get("step", 0), self._last.get("step", 0))
        return step

    @property
    def seconds(self) -> float | None:
        """Return the training time so far; None if it is unknown."""
        known = self.facts.get("wall_seconds"), self._last.get("seconds")
        return max((seconds for seconds in known if seconds is not None), default=None)

    @property
    def latest_metrics(self) -> Mapping[str, float]:
        """Return the metrics of the last evaluation; empty before the first."""
        latest: Mapping[str, float] = next(
            (each["figures"] for each in reversed(self.history) if "figures" in each), {}
        )
        return latest

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """Return all alarms, each with its step."""
        return [{**each["alarm"], "step": each["step"]} for each in self.history if "alarm" in each]

    @property
    def _last(self) -> Mapping[str, Any]:
        return self.history[-1] if self.history else {}


def json_safe(content: Any) -> Any:
    """Replace NaN and infinite numbers by None, because strict JSON has none."""
    return json.loads(json.dumps(content), parse_constant=lambda _: None)
