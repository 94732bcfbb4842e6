"""What is recorded of a run while it goes on: losses, probe readings, samples, metrics on held-out data, alarms."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from latentd.models.decision_surface import DecisionSurface
from latentd.training.data.source import DataSource, OnProgress, TaskProgress
from latentd.training.evaluation.evaluate import generate_set
from latentd.training.evaluation.evaluator import SamplesNotFinite
from latentd.training.loop import Algorithm, Losses
from latentd.training.run.collapse_detector import CollapseDetector
from latentd.training.run.collapse_probe import ProbeReading
from latentd.training.run.directory import RunDirectory
from latentd.training.run.generator_probe import GeneratorProbe
from latentd.training.run.snapshots import decision_surface, render_nearest_training, render_snapshot

logger = logging.getLogger(__name__)

_LOSSES, _SNAPSHOTS, _EVALUATIONS = 200, 40, 10
"""How often in a run each is recorded."""
_MIN_STEPS_BETWEEN_EVALUATIONS = 500
_PROBE_TIME = 1 / 60
"""Fraction of the run's time that may be spent on probe readings."""


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of the generator at one step, on held-out data."""

    step: int
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    """The same metrics of real samples."""
    selection_metric: str
    """The metric by which the best generator is chosen; less is better."""
    measured: str
    """How and on what, for people to read."""

    @property
    def value(self) -> float:
        """The value of the selection metric."""
        return self.metrics[self.selection_metric]


class Monitor:
    """Records a run in its directory. It changes nothing that the run learns."""

    def __init__(
        self,
        algorithm: Algorithm,
        source: DataSource,
        steps: int,
        directory: RunDirectory,
        on_evaluation: Callable[[EvaluationResult], None],
    ) -> None:
        """`steps`: planned steps of the run. `on_evaluation` is called with the result of each evaluation."""
        self._algorithm = algorithm
        self._steps = steps
        self._directory = directory
        self._on_evaluation = on_evaluation
        self._losses: list[Losses] = []
        self._last_step = (0, 0.0)
        self._evaluator = source.evaluator()
        self._evaluated_step = 0
        self._baseline: dict[str, float] = {}
        self._probe = GeneratorProbe(algorithm, source)
        self._next_reading = 0.0
        self._is_warm = False
        self._detector = CollapseDetector(steps)

    def on_step(self, step: int, losses: Losses, seconds: float) -> None:
        """Record what is due after `step`. `seconds`: time since the run began."""
        self._last_step = (step, seconds)
        self._losses.append(losses)
        if self._is_due(step, _LOSSES):
            self.log_losses()
        if time.monotonic() >= self._next_reading:
            self._read_probe(step, seconds)
        if self._is_due(step, _SNAPSHOTS):
            self._directory.save_samples(step, *render_snapshot(self._algorithm, self._probe.reach))
        if self._is_due(step, _EVALUATIONS, _MIN_STEPS_BETWEEN_EVALUATIONS) and step < self._steps:
            self._evaluate(step, seconds)

    def log_losses(self) -> None:
        """Record the mean losses of the steps since the last call, if there were any."""
        if self._losses:
            self._directory.log(*self._last_step, "losses", _means(self._losses))
            self._losses.clear()

    def decision_surface(self) -> DecisionSurface | None:
        """Return the discriminator's decision surface; None if there is none, or if it is not finite."""
        surface = decision_surface(self._algorithm, self._probe.reach)
        return surface if surface and surface.logits.isfinite().all() else None

    def finish(self, step: int, seconds: float, on_progress: OnProgress) -> None:
        """Record the end of the run at `step`: evaluate the generator and compare samples with the training data."""
        self.log_losses()
        if self._evaluator is None:
            return
        on_progress(TaskProgress("evaluating the generator", 0, 1, "sets"))
        self._evaluate(step, seconds)
        if nearest := render_nearest_training(self._algorithm.ema.generator, self._evaluator):
            self._directory.save_nearest(*nearest)
        on_progress(TaskProgress("evaluating the generator", 1, 1, "sets"))

    def _evaluate(self, step: int, seconds: float) -> None:
        if self._evaluator is None or self._evaluated_step == step:
            return
        self._evaluated_step = step
        generated = generate_set(self._algorithm.ema.generator, range(self._evaluator.num_samples))
        try:
            metrics = self._evaluator.quick_metrics(generated)
        except SamplesNotFinite:
            return  # the run will end with TrainingDiverged
        self._directory.log(step, seconds, "figures", metrics)
        self._baseline = self._baseline or self._evaluator.quick_metrics(self._evaluator.real_samples(0))
        measured = f"{self._evaluator.num_samples} samples against held-out data, {self._evaluator.measured_on}"
        self._on_evaluation(EvaluationResult(step, metrics, self._baseline, self._evaluator.selection_metric, measured))

    def _is_due(self, step: int, times: int, min_steps: int = 1) -> bool:
        """Whether something is due that is done `times` times in a run, at least `min_steps` apart, and at the end."""
        return step % max(min_steps, self._steps // times) == 0 or step == self._steps

    def _read_probe(self, step: int, seconds: float) -> None:
        started = time.monotonic()
        if reading := self._probe.read():
            self._directory.log(step, seconds, "vitals", _as_vitals(reading))
            if alarm := self._detector.observe(step, reading):
                logger.warning("step %d: %s", step, alarm.message)
                self._directory.log(step, seconds, "alarm", asdict(alarm))
        ended = time.monotonic()
        if self._is_warm:  # the first reading takes longer than the others
            self._next_reading = ended + (ended - started) / _PROBE_TIME
        self._is_warm = True


def _as_vitals(reading: ProbeReading) -> dict[str, float]:
    """Return a reading by the names that `metrics.jsonl` has had from the beginning."""
    values = asdict(reading)
    values["certainty"] = values.pop("discriminator_auc")
    return {name: value for name, value in values.items() if value is not None}


def _means(losses: Sequence[Losses]) -> dict[str, float]:
    return {name: fmean(each[name] for each in losses) for name in losses[0]}
