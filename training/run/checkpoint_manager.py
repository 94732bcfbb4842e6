"""The checkpoints of a run: the last generator, and beside it the best of those that were evaluated."""

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from latentd.models.card import Card
from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.decision_surface import DecisionSurface
from latentd.models.errors import CheckpointError
from latentd.models.family import Generator
from latentd.models.file_names import SURFACE_ENDING, sidecar_path
from latentd.training.run.callback import ActiveRun, Callback, EvaluationResult
from latentd.training.run.directory import OutputError
from latentd.training.run.snapshots import decision_surface

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    step: int
    seconds: float


class CheckpointManager(Callback):
    """Writes the last generator to `path`, and the best to `NAME-best` beside it while the last one is worse."""

    required = True

    def __init__(self, path: Path, card: Card, images_per_step: int, steps_done: int, reach: float) -> None:
        """`card`: the facts that all checkpoints share. `steps_done`: steps before the run was resumed.

        `reach`: how far the decision surface beside a checkpoint reaches.
        """
        self.path = path
        self.card = card
        self._reach = reach
        self._best_path = path.with_stem(f"{path.stem}-best")
        self._images_per_step = images_per_step
        self._steps_done = steps_done
        self._result: EvaluationResult | None = None
        self._best: EvaluationResult | None = None
        self._version = ""

    def on_evaluation(self, run: ActiveRun, result: EvaluationResult) -> None:
        progress = Progress(result.step, run.seconds)
        try:
            self.save_if_best(run.generator, result, progress, self._surface(run))
        except OSError as problem:
            logger.warning("step %d: the best generator could not be saved: %s", run.step, problem)
        run.best = self.best

    def on_end(self, run: ActiveRun) -> None:
        if not run.step:
            return
        progress = Progress(run.step, run.seconds)
        run.checkpoint = self.save_last(run.generator, progress, run.steps, self._surface(run))
        run.best = self.best

    def _surface(self, run: ActiveRun) -> DecisionSurface | None:
        """Return the discriminator's decision surface; None if there is none, or if it is not finite."""
        surface = decision_surface(run.algorithm, self._reach)
        return surface if surface and surface.logits.isfinite().all() else None

    def save_if_best(
        self,
        generator: Generator,
        result: EvaluationResult,
        progress: Progress,
        surface: DecisionSurface | None = None,
    ) -> None:
        """Save `generator`, and its discriminator's decision surface, if none before had a better `result`.

        Raises OSError if the file cannot be written.
        """
        if self._result is None:
            self._find_earlier_best(result)
        self._result = result
        if self._best is None or result.value < self._best.value:
            self._version = self._write(self._best_path, generator, progress, surface).version
            self._best = result

    def save_last(
        self, generator: Generator, progress: Progress, planned: int, surface: DecisionSurface | None = None
    ) -> Checkpoint:
        """Save the generator that a run of `planned` steps ended with, and its discriminator's decision surface.

        Raises OutputError if the file cannot be written.
        """
        path = self._free_path(progress, planned)
        try:
            checkpoint = self._write(path, generator, progress, surface)
        except OSError as problem:
            raise OutputError(f"{path} could not be written: {problem}") from problem
        if self._best and self._best.step == progress.step and path == self.path:
            self._best = None
            self._best_path.unlink(missing_ok=True)
            sidecar_path(self._best_path, SURFACE_ENDING).unlink(missing_ok=True)
        return checkpoint

    @property
    def best(self) -> dict[str, JsonValue] | None:
        """Facts about the best generator for `run.json`; None if it is the last one, or none was evaluated."""
        if self._best is None:
            return None
        return {
            "name": self._best_path.stem,
            "step": self._best.step,
            "value": self._best.value,
            "version": self._version,
        }

    def _find_earlier_best(self, like: EvaluationResult) -> None:
        """Find the best generator from before the run was resumed.

        If it was also the last one, it is copied, because the last one will be overwritten. Metrics that were measured
        in another way (`latentd evaluate` writes such ones) do not count.
        """
        found = [checkpoint for checkpoint in map(_read, (self._best_path, self.path)) if checkpoint]
        candidates = [
            each for each in found if each.card.steps <= self._steps_done and each.card.measured == like.measured
        ]
        if not candidates:
            return
        best = min(candidates, key=lambda each: each.card.metrics[like.selection_metric])
        if best.name != self._best_path.stem:
            write_checkpoint(self._best_path, best.card, best.tensors)
            with suppress(CheckpointError):  # not every checkpoint has a surface
                DecisionSurface.read(self.path, best.version).write(self._best_path, best.version)
        self._best = replace(like, step=best.card.steps, metrics=best.card.metrics, baseline=best.card.floors)
        self._version = best.version

    def _write(
        self, path: Path, generator: Generator, progress: Progress, surface: DecisionSurface | None
    ) -> Checkpoint:
        facts: dict[str, object] = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "steps": progress.step,
            "images_seen": progress.step * self._images_per_step,
            "wall_seconds": round(progress.seconds, 1),
        }
        if self._result and self._result.step == progress.step:
            facts |= {
                "metrics": self._result.metrics,
                "floors": self._result.baseline,
                "measured": self._result.measured,
            }
        checkpoint = write_checkpoint(path, self.card.model_copy(update=facts), generator.state_dict())
        _write_surface(path, checkpoint.version, surface)
        return checkpoint

    def _free_path(self, progress: Progress, planned: int) -> Path:
        """Return another path for a run that was stopped early, if the file there is of a later step."""
        before = _read(self.path)
        keeps_later = progress.step < planned and before is not None and before.card.steps > progress.step
        return self.path.with_stem(f"{self.path.stem}-step{progress.step}") if keeps_later else self.path


def _write_surface(path: Path, version: str, surface: DecisionSurface | None) -> None:
    """Write the decision surface beside a checkpoint, or delete an old one. A failure is only logged."""
    try:
        if surface is None:
            sidecar_path(path, SURFACE_ENDING).unlink(missing_ok=True)
        else:
            surface.write(path, version)
    except OSError as problem:
        logger.warning("the decision surface beside %s could not be written: %s", path, problem)


def _read(path: Path) -> Checkpoint | None:
    """Return the checkpoint; None if it is missing or unreadable."""
    try:
        return Checkpoint.read(path)
    except CheckpointError:
        return None
