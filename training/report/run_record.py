"""What a run folder says of its run, whether that goes on, has ended or was killed."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from latentd.models.errors import LatentdError
from latentd.training.directory import read_metrics, read_run_json
from latentd.training.lock import is_locked


class RunNotFound(LatentdError):
    """A folder that is no run's; the message names it."""


@dataclass(frozen=True)
class RunRecord:
    """`run.json`, of which any key may be missing, and the lines of `metrics.jsonl`."""

    facts: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    is_held: bool = False
    """Whether a process is at work in the folder."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Of a run folder; RunNotFound where there is no `run.json` that can be read."""
        facts = read_run_json(folder)
        if facts is None:
            raise RunNotFound(f"{folder} has no run.json that can be read")
        return cls(facts, list(read_metrics(folder)), is_locked(folder))

    @property
    def status(self) -> str:
        """`running` while a process is at work, and else as it was written; `killed` where that is not how it ended.

        `running?` where a process of another machine may be at work, whose lock need not be seen from here.
        """
        status = str(self.facts.get("status", "unknown"))
        if self.is_held:
            return "running"
        if status != "running":
            return status
        return "killed" if self.facts.get("host") == platform.node() else "running?"

    @property
    def step(self) -> int:
        """The last one known: while a run goes on, `run.json` lags behind its last moment."""
        step: int = max(self.facts.get("step", 0), self._last.get("step", 0))
        return step

    @property
    def seconds(self) -> float | None:
        """Spent on the run so far; None where nothing says."""
        seconds: float | None = self.facts.get("wall_seconds", self._last.get("seconds"))
        return seconds

    @property
    def latest_metrics(self) -> Mapping[str, float]:
        """Of the last judgement; empty before there was one."""
        judged: Mapping[str, float] = next(
            (each["figures"] for each in reversed(self.history) if "figures" in each), {}
        )
        return judged

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """All that were raised, each with its step."""
        return [{**each["alarm"], "step": each["step"]} for each in self.history if "alarm" in each]

    @property
    def _last(self) -> Mapping[str, Any]:
        return self.history[-1] if self.history else {}


def json_safe(content: Any) -> Any:
    """What JSON can say of `content`: null for a number that is none, which browsers could not read."""
    return json.loads(json.dumps(content), parse_constant=lambda _: None)
