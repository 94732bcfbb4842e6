"""What one process writes of a run: its states, what is seen of it, and its generators."""

import logging
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from latentd.models.card import Card
from latentd.models.checkpoint import Checkpoint
from latentd.training.checkpoints import CheckpointManager, Progress
from latentd.training.data.source import DataSource, OnProgress
from latentd.training.directory import RunDirectory
from latentd.training.loop import Algorithm, Losses
from latentd.training.monitor import EvaluationResult, Monitor
from latentd.training.report.page import write_report
from latentd.training.state import StateDirectory

logger = logging.getLogger(__name__)


class RunRecorder:
    """Hears of every step of a run that goes on from `done`, and of how it ends.

    A disk that is full costs what is seen of the run, and says so; it does not end the run.
    """

    def __init__(
        self,
        path: Path,
        card: Card,
        algorithm: Algorithm,
        source: DataSource,
        states: StateDirectory,
        checkpoints: CheckpointManager,
        done: Progress,
    ) -> None:
        self._path = path.parent
        self._algorithm = algorithm
        self._states = states
        self._checkpoints = checkpoints
        self._began = time.monotonic() - done.seconds
        self._steps: int = card.settings["steps"]  # type: ignore[assignment]  # of any recipe
        self._folder = RunDirectory(self._path, done.step, _facts(path, card))
        self._disk_was_full = False
        self._monitor = Monitor(algorithm, source, self._steps, self._folder, self._on_judged)

    def on_step(self, step: int, losses: Losses) -> None:
        """Of a step that was played."""
        self._seeing(lambda: self._monitor.on_step(step, losses, self._seconds()))
        self._states.offer(self._algorithm, step, self._seconds())

    def finished(self, step: int, on_progress: OnProgress) -> Checkpoint | None:
        """Keep what was learnt in all the steps, or in those until the run was stopped (None: in not a single one)."""
        if not step:
            self._close(status="stopped")
            return None
        now = Progress(step, self._seconds())
        self._states.save_now(self._algorithm, step, now.seconds)
        self._seeing(lambda: self._monitor.end(step, now.seconds, on_progress))
        kept = self._checkpoints.last(self._algorithm.ema.generator, now, self._steps, self._monitor.surface())
        self._close(
            status="finished" if step == self._steps else "stopped",
            step=step,
            wall_seconds=round(now.seconds, 1),
            version=kept.version,
            best=self._checkpoints.best,
        )
        return kept

    def failed(self, problem: BaseException) -> None:
        """Note why the run ended."""
        self._seeing(self._monitor.note_losses)
        self._close(status="failed", wall_seconds=round(self._seconds(), 1), error=str(problem) or repr(problem))

    def _on_judged(self, judgement: EvaluationResult) -> None:
        now = Progress(judgement.step, self._seconds())
        self._checkpoints.judged(self._algorithm.ema.generator, judgement, now, self._monitor.surface())
        self._folder.state(
            step=now.step,
            wall_seconds=round(now.seconds, 1),
            chosen_by=judgement.chosen_by,
            floors=dict(judgement.floors),
            measured=judgement.measured,
            best=self._checkpoints.best,
        )
        write_report(self._path)

    def _close(self, **facts: JsonValue) -> None:
        self._seeing(lambda: self._folder.close(**facts))
        self._seeing(lambda: write_report(self._path))

    def _seeing(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as problem:
            if not self._disk_was_full:
                logger.warning("not all that is seen of this run can be kept: %s", problem)
            self._disk_was_full = True

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def _facts(path: Path, card: Card) -> dict[str, JsonValue]:
    told = card.model_dump(
        mode="json", include={"recipe", "description", "settings", "seed", "data", "hardware", "versions"}
    )
    return told | {
        "name": path.stem,
        "steps": card.settings["steps"],
        "status": "running",
        "step": 0,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
    }
