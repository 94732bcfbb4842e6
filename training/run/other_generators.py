"""The checkpoints of generators that a run produces beside its own, such as the way back of a CycleGAN."""

from latentd.models.card import Card
from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.training.run.callback import ActiveRun, Callback, EvaluationResult
from latentd.training.run.directory import OutputError


class OtherGenerators(Callback):
    """Writes each of `Algorithm.other_emas` as `NAME-KEY`, whenever the run's own generator is written as `NAME`.

    They have no metrics of their own: their best ones are those of the step of the run's best.
    """

    required = True

    def on_evaluation(self, run: ActiveRun, result: EvaluationResult) -> None:
        if run.algorithm.other_emas and run.best and run.best["step"] == run.step:
            self._write(run, Checkpoint.read(run.path.with_stem(f"{run.path.stem}-best")).card, "-best")

    def on_end(self, run: ActiveRun) -> None:
        if run.checkpoint is None:
            return
        self._write(run, run.checkpoint.card, "")
        if run.best is None:
            for key in run.algorithm.other_emas:
                run.path.with_stem(f"{run.path.stem}-{key}-best").unlink(missing_ok=True)

    def _write(self, run: ActiveRun, card: Card, ending: str) -> None:
        """`card`: that of the run's own generator at this step."""
        for key, ema in run.algorithm.other_emas.items():
            path = run.path.with_stem(f"{run.path.stem}-{key}{ending}")
            own = {"spec": ema.generator.spec, "metrics": {}, "floors": {}, "measured": ""}
            try:
                write_checkpoint(path, card.model_copy(update=own), ema.generator.state_dict())
            except OSError as problem:
                raise OutputError(f"{path} could not be written: {problem}") from problem
