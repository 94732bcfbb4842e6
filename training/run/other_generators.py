"""The checkpoints of generators that a run produces beside its own, such as the way back of a CycleGAN."""

import logging
from pathlib import Path

from latentd.models.card import Card
from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.errors import CheckpointError
from latentd.training.run.callback import ActiveRun, Callback, EvaluationResult
from latentd.training.run.directory import OutputError

logger = logging.getLogger(__name__)


class OtherGenerators(Callback):
    """Writes each of `Algorithm.other_emas` as `NAME-KEY`, whenever the run's own generator is written as `NAME`.

    They have no metrics of their own: their best ones are those of the step of the run's best.
    """

    required = True

    def on_evaluation(self, run: ActiveRun, result: EvaluationResult) -> None:
        if not (run.algorithm.other_emas and run.best):
            return
        try:
            if run.best["step"] == run.step:
                self._write(run, Checkpoint.read(_path(run, "", "-best")).card, "-best")
            else:
                self._keep_earlier_best(run)
        except OSError as problem:
            logger.warning("step %d: the best of the other generators could not be saved: %s", run.step, problem)

    def on_end(self, run: ActiveRun) -> None:
        if run.checkpoint is None:
            return
        ending = run.checkpoint.name.removeprefix(run.path.stem)
        try:
            self._write(run, run.checkpoint.card, ending)
        except OSError as problem:
            raise OutputError(f"the other generators in {run.folder} could not be written: {problem}") from problem
        if run.best is None:
            for key in run.algorithm.other_emas:
                _path(run, f"-{key}", "-best").unlink(missing_ok=True)

    def _write(self, run: ActiveRun, card: Card, ending: str) -> None:
        """`card`: that of the run's own generator at this step."""
        for key, ema in run.algorithm.other_emas.items():
            own = {"spec": ema.generator.spec, "metrics": {}, "floors": {}, "measured": ""}
            write_checkpoint(_path(run, f"-{key}", ending), card.model_copy(update=own), ema.generator.state_dict())

    def _keep_earlier_best(self, run: ActiveRun) -> None:
        """Copy the last generators from before the run was resumed if they were the best. They will be overwritten."""
        for key in run.algorithm.other_emas:
            best = _path(run, f"-{key}", "-best")
            if best.exists() or run.best is None:
                continue
            try:
                last = Checkpoint.read(_path(run, f"-{key}", ""))
            except CheckpointError:
                continue
            if last.card.steps == run.best["step"]:
                write_checkpoint(best, last.card, last.tensors)


def _path(run: ActiveRun, key: str, ending: str) -> Path:
    return run.path.with_stem(f"{run.path.stem}{key}{ending}")
