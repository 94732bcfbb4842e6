"""Which generators of a run are kept: the last one, and beside it the best of those that were judged on the way."""

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from latentd.models.card import Card
from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.decision_surface import SURFACE_ENDING, DecisionSurface
from latentd.models.errors import CheckpointError
from latentd.models.family import Generator
from latentd.models.sidecars import sidecar_path
from latentd.training.directory import OutputError
from latentd.training.monitor import EvaluationResult

logger = logging.getLogger("training")


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    step: int
    seconds: float


class CheckpointManager:
    """Writes checkpoints at `path`, and the best as `NAME-best` beside it for as long as the last one is worse.

    `card` says what is the same for all of them; a run that goes on from step `done` remembers its best by those files.
    """

    def __init__(self, path: Path, card: Card, images_a_step: int, done: int) -> None:
        self._path = path
        self._best_path = path.with_stem(f"{path.stem}-best")
        self._card = card
        self._images_a_step = images_a_step
        self._done = done
        self._judgement: EvaluationResult | None = None
        self._best: EvaluationResult | None = None
        self._version = ""

    def judged(
        self, generator: Generator, judgement: EvaluationResult, now: Progress, surface: DecisionSurface | None = None
    ) -> None:
        """Keep `generator`, and its discriminator's `surface`, if no better one was judged before.

        Raises OSError where it cannot be written.
        """
        if self._judgement is None:
            self._recall(judgement)
        self._judgement = judgement
        if self._best is None or judgement.value < self._best.value:
            self._version = self._write(self._best_path, generator, now, surface).version
            self._best = judgement

    def last(
        self, generator: Generator, now: Progress, planned: int, surface: DecisionSurface | None = None
    ) -> Checkpoint:
        """Keep the generator that a run of `planned` steps ended with, at that step or stopped before, and `surface`.

        Raises OutputError where it cannot be written.
        """
        path = self._free_path(now, planned)
        try:
            kept = self._write(path, generator, now, surface)
        except OSError as problem:
            raise OutputError(f"{path} could not be written: {problem}") from problem
        if self._best and self._best.step == now.step and path == self._path:
            self._best = None
            self._best_path.unlink(missing_ok=True)
            sidecar_path(self._best_path, SURFACE_ENDING).unlink(missing_ok=True)
        return kept

    @property
    def best(self) -> dict[str, JsonValue] | None:
        """What is known of the best, where that stands beside the last."""
        if self._best is None:
            return None
        return {
            "name": self._best_path.stem,
            "step": self._best.step,
            "value": self._best.value,
            "version": self._version,
        }

    def _recall(self, like: EvaluationResult) -> None:
        """The best of the steps before `done`; where that is the last one, it is put aside for what will follow.

        Figures that were measured otherwise, by `latentd evaluate`, do not count.
        """
        candidates = [read for read in map(_read, (self._best_path, self._path)) if read]
        candidates = [
            read for read in candidates if read.card.steps <= self._done and read.card.measured == like.measured
        ]
        if not candidates:
            return
        best = min(candidates, key=lambda read: read.card.metrics[like.chosen_by])
        self._best = replace(like, step=best.card.steps, figures=best.card.metrics, floors=best.card.floors)
        self._version = best.version
        if best.name != self._best_path.stem:
            write_checkpoint(self._best_path, best.card, best.tensors)
            with suppress(CheckpointError):  # it had none
                DecisionSurface.read(self._path, best.version).write(self._best_path, best.version)

    def _write(self, path: Path, generator: Generator, now: Progress, surface: DecisionSurface | None) -> Checkpoint:
        facts: dict[str, object] = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "steps": now.step,
            "images_seen": now.step * self._images_a_step,
            "wall_seconds": round(now.seconds, 1),
        }
        if self._judgement and self._judgement.step == now.step:
            facts |= {
                "metrics": self._judgement.figures,
                "floors": self._judgement.floors,
                "measured": self._judgement.measured,
            }
        kept = write_checkpoint(path, self._card.model_copy(update=facts), generator.state_dict())
        _keep_beside(path, kept.version, surface)
        return kept

    def _free_path(self, now: Progress, planned: int) -> Path:
        """A run that was stopped early does not take the place of one that went further."""
        before = _read(self._path)
        further = now.step < planned and before is not None and before.card.steps > now.step
        return self._path.with_stem(f"{self._path.stem}-step{now.step}") if further else self._path


def _keep_beside(path: Path, version: str, surface: DecisionSurface | None) -> None:
    """The surface of a generator that is kept; it is an ornament, which costs no generator."""
    try:
        if surface is None:
            sidecar_path(path, SURFACE_ENDING).unlink(missing_ok=True)
        else:
            surface.write(path, version)
    except OSError as problem:
        logger.warning("the discriminator's surface beside %s could not be written: %s", path, problem)


def _read(path: Path) -> Checkpoint | None:
    """None where there is none that anybody could use."""
    try:
        return Checkpoint.read(path)
    except CheckpointError:
        return None
