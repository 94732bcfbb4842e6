"""Everything that a run writes: its state, what the monitor records, checkpoints, and the report."""

import logging
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from pydantic import JsonValue

from latentd.models.checkpoint import Checkpoint
from latentd.training.data.source import DataSource, OnProgress
from latentd.training.loop import Algorithm, Losses
from latentd.training.report.page import write_report
from latentd.training.run.checkpoint_manager import CheckpointManager, Progress
from latentd.training.run.directory import RunDirectory
from latentd.training.run.monitor import EvaluationResult, Monitor
from latentd.training.run.state import StateDirectory

logger = logging.getLogger(__name__)


class RunRecorder:
    """Writes the files of a run, on the main rank.

    A full disk does not end the run: records that cannot be written are lost, and this is logged once.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        source: DataSource,
        states: StateDirectory,
        checkpoints: CheckpointManager,
        steps: int,
        done: Progress,
    ) -> None:
        """`steps`: planned steps of the run. `done`: how far it came before it was resumed."""
        self._path = checkpoints.path.parent
        self._algorithm = algorithm
        self._states = states
        self._checkpoints = checkpoints
        self._began = time.monotonic() - done.seconds
        self._steps = steps
        self._directory = RunDirectory(self._path, done.step, _facts(checkpoints, steps))
        self._disk_was_full = False
        self._monitor = Monitor(algorithm, source, steps, self._directory, self._on_evaluation)

    def on_step(self, step: int, losses: Losses) -> None:
        """Record a step."""
        with self._tolerate_full_disk():
            self._monitor.on_step(step, losses, self._seconds())
        self._states.save_if_due(self._algorithm, step, self._seconds())

    def finish(self, step: int, on_progress: OnProgress) -> Checkpoint | None:
        """Save the generator of a run that finished, or was stopped, after `step`. Return None if `step` is 0."""
        if not step:
            self._close(status="stopped")
            return None
        progress = Progress(step, self._seconds())
        self._states.save_now(self._algorithm, step, progress.seconds)
        with self._tolerate_full_disk():
            self._monitor.finish(step, progress.seconds, on_progress)
        surface = self._monitor.decision_surface()
        checkpoint = self._checkpoints.save_last(self._algorithm.ema.generator, progress, self._steps, surface)
        self._close(
            status="finished" if step == self._steps else "stopped",
            step=step,
            wall_seconds=round(progress.seconds, 1),
            version=checkpoint.version,
            best=self._checkpoints.best,
        )
        return checkpoint

    def fail(self, problem: BaseException) -> None:
        """Record why the run failed."""
        with self._tolerate_full_disk():
            self._monitor.log_losses()
        self._close(status="failed", wall_seconds=round(self._seconds(), 1), error=str(problem) or repr(problem))

    def _on_evaluation(self, result: EvaluationResult) -> None:
        progress = Progress(result.step, self._seconds())
        surface = self._monitor.decision_surface()
        self._checkpoints.save_if_best(self._algorithm.ema.generator, result, progress, surface)
        self._directory.update(
            step=progress.step,
            wall_seconds=round(progress.seconds, 1),
            chosen_by=result.selection_metric,
            floors=dict(result.baseline),
            measured=result.measured,
            best=self._checkpoints.best,
        )
        write_report(self._path)

    def _close(self, **facts: JsonValue) -> None:
        with self._tolerate_full_disk():
            self._directory.close(**facts)
        with self._tolerate_full_disk():
            write_report(self._path)

    @contextmanager
    def _tolerate_full_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            if not self._disk_was_full:
                logger.warning("not all records of this run can be written: %s", problem)
            self._disk_was_full = True

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def _facts(checkpoints: CheckpointManager, steps: int) -> dict[str, JsonValue]:
    """Return the first content of `run.json`."""
    shared = checkpoints.card.model_dump(
        mode="json", include={"recipe", "description", "settings", "seed", "data", "hardware", "versions"}
    )
    return shared | {
        "name": checkpoints.path.stem,
        "steps": steps,
        "status": "running",
        "step": 0,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
    }
