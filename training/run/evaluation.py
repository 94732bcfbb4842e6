"""Evaluates the generator on held-out data."""

from collections.abc import Mapping

from latentd.training.data.source import OnProgress, TaskProgress
from latentd.training.evaluation.evaluator import Evaluator, SamplesNotFinite
from latentd.training.run.callback import ActiveRun, Callback, EvaluationResult, PeriodicCallback
from latentd.training.run.snapshots import render_nearest_training

_TIMES = 10
"""How often in a run, at most."""
_MIN_STEPS = 500
"""Steps between two evaluations."""


class Evaluation(PeriodicCallback):
    """Measures metrics. At the end of the run it also compares samples with the training data."""

    time_fraction = 1 / 10

    def __init__(self, evaluator: Evaluator | None, on_progress: OnProgress) -> None:
        """`evaluator`: None if no data is held out; then nothing is measured."""
        self._evaluator = evaluator
        self._on_progress = on_progress
        self._baseline: Mapping[str, float] = {}

    def is_due(self, run: ActiveRun) -> bool:
        return run.step % max(_MIN_STEPS, run.steps // _TIMES) == 0

    def act(self, run: ActiveRun) -> None:
        if self._evaluator is None:
            return
        if run.has_ended:
            self._show(0)
        generated = run.algorithm.evaluation_set(range(self._evaluator.num_samples))
        try:
            metrics = self._evaluator.quick_metrics(generated)
        except SamplesNotFinite:
            return  # the run will end with TrainingDiverged
        run.log("figures", metrics)
        self._baseline = self._baseline or self._evaluator.quick_metrics(self._evaluator.real_samples(0))
        measured = f"{self._evaluator.num_samples} samples against held-out data, {self._evaluator.measured_on}"
        metric = self._evaluator.selection_metric
        run.tell(Callback.on_evaluation, EvaluationResult(run.step, metrics, self._baseline, metric, measured))

    def on_end(self, run: ActiveRun) -> None:
        if self._evaluator is None or not run.step:
            return
        if nearest := render_nearest_training(run.algorithm, self._evaluator):
            run.tell(Callback.on_nearest, *nearest)
        self._show(1)

    def _show(self, done: int) -> None:
        self._on_progress(TaskProgress("evaluating the generator", done, 1, "sets"))
