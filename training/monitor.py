"""What is seen of a run while it goes on: losses, vitals, samples, figures on held-out data, and the alarm."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

import torch

from latentd.models.decision_surface import DecisionSurface
from latentd.training.build import draw_latents
from latentd.training.collapse_detector import CollapseDetector
from latentd.training.collapse_probe import CollapseProbe, ProbeReading
from latentd.training.data.source import Batch, DataSource, OnProgress, TaskProgress
from latentd.training.directory import RunDirectory
from latentd.training.evaluation.evaluate import generate_set
from latentd.training.loader import as_batch
from latentd.training.loop import Algorithm, Losses
from latentd.training.randomness import generator_for, seed_for
from latentd.training.snapshots import nearest_training, snapshot_of, surface_of
from latentd.training.world import World

logger = logging.getLogger(__name__)

_REAL, _FEWEST_REAL, _ONE_SHOWN_OF = 1280, 50, 5
"""Real samples that vitals are taken beside, at most and at least; one of so many is shown to the discriminator."""
_LOOKED_AT = 256
"""Generated samples a look."""
_MARGIN = 1.25
_RECORDS, _SNAPSHOTS, _JUDGEMENTS = 200, 40, 10
"""How often in a run."""
_BETWEEN_JUDGEMENTS = 500
"""Steps at least, because they take long."""
_SHARE_OF_TIME = 1 / 60
"""Of a run's time, spent on looking at its vitals."""


@dataclass(frozen=True)
class EvaluationResult:
    """Figures of the generator at one step, on data that it does not learn from."""

    step: int
    figures: Mapping[str, float]
    floors: Mapping[str, float]
    """The same of real samples."""
    chosen_by: str
    measured: str
    """How and on what, in words."""

    @property
    def value(self) -> float:
        """By which the best generator is chosen; less is better."""
        return self.figures[self.chosen_by]


class Monitor:
    """Hears of every step of a run of `steps`, and keeps what there is to know in its folder.

    `on_judged` is called with every judgement.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        source: DataSource,
        steps: int,
        folder: RunDirectory,
        on_judged: Callable[[EvaluationResult], None],
    ) -> None:
        self._algorithm = algorithm
        self._steps = steps
        self._folder = folder
        self._on_judged = on_judged
        self._losses: list[Losses] = []
        self._evaluator = source.evaluator()
        self._examined = _Examined(algorithm, source)
        self._detector = CollapseDetector(steps)
        self._look_at = 0.0
        self._looked = False
        self._heard = (0, 0.0)
        self._judged_at = 0
        self._floors: dict[str, float] = {}

    def on_step(self, step: int, losses: Losses, seconds: float) -> None:
        """Of a step that ended `seconds` after the run began."""
        self._heard = (step, seconds)
        self._losses.append(losses)
        if self._is_due(step, _RECORDS):
            self.note_losses()
        if time.monotonic() >= self._look_at:
            self._look(step, seconds)
        if self._is_due(step, _SNAPSHOTS):
            self._folder.keep_samples(step, *snapshot_of(self._algorithm, self._examined.reach))
        if self._is_due(step, _JUDGEMENTS, _BETWEEN_JUDGEMENTS) and step < self._steps:
            self._judge(step, seconds)

    def note_losses(self) -> None:
        """Of the steps since they were last noted, if there were any."""
        if self._losses:
            self._folder.note(*self._heard, "losses", _means(self._losses))
            self._losses.clear()

    def surface(self) -> DecisionSurface | None:
        """The discriminator's, as far as the data goes and a little more; None where there is none, or none finite."""
        surface = surface_of(self._algorithm, self._examined.reach)
        return surface if surface and surface.logits.isfinite().all() else None

    def end(self, step: int, seconds: float, on_progress: OnProgress) -> None:
        """Of the last step: the generator is judged, and held against what it learnt from."""
        self.note_losses()
        if self._evaluator is None:
            return
        on_progress(TaskProgress("judging what was learnt", 0, 1, "sets"))
        self._judge(step, seconds)
        if picture := nearest_training(self._algorithm.ema.generator, self._evaluator):
            self._folder.keep_nearest(*picture)
        on_progress(TaskProgress("judging what was learnt", 1, 1, "sets"))

    def _judge(self, step: int, seconds: float) -> None:
        """The generator as it is, if there is a evaluator and it was not judged at this step."""
        if self._evaluator is None or self._judged_at == step:
            return
        self._judged_at = step
        judged = generate_set(self._algorithm.ema.generator, range(self._evaluator.num_samples))
        if not judged.samples.isfinite().all():
            return  # the run is about to end
        figures = self._evaluator.quick_metrics(judged)
        self._folder.note(step, seconds, "figures", figures)
        self._floors = self._floors or self._evaluator.quick_metrics(self._evaluator.real_samples(0))
        measured = f"{self._evaluator.num_samples} samples against held-out data, {self._evaluator.measured_on}"
        self._on_judged(EvaluationResult(step, figures, self._floors, self._evaluator.selection_metric, measured))

    def _is_due(self, step: int, times: int, apart: int = 1) -> bool:
        """So many times in a run, but no oftener than every so many steps; and at the last."""
        return step % max(apart, self._steps // times) == 0 or step == self._steps

    def _look(self, step: int, seconds: float) -> None:
        started = time.monotonic()
        if vitals := self._examined.look():
            known = {name: value for name, value in asdict(vitals).items() if value is not None}
            self._folder.note(step, seconds, "vitals", known)
            if finding := self._detector.observe(step, vitals):
                logger.warning("step %d: %s", step, finding.message)
                self._folder.note(step, seconds, "alarm", asdict(finding))
        ended = time.monotonic()
        if self._looked:  # the first look, which warms up, is no measure
            self._look_at = ended + (ended - started) / _SHARE_OF_TIME
        self._looked = True


class _Examined:
    """The algorithm as the probe looks at it: always the same latents, beside always the same real samples."""

    def __init__(self, algorithm: Algorithm, source: DataSource) -> None:
        self._algorithm = algorithm
        spec = algorithm.ema.generator.spec
        device = next(algorithm.ema.generator.parameters()).device
        count = min(_REAL, source.card.size or _REAL)
        seed = seed_for(algorithm.seed, "vitals")
        real = as_batch(*next(source.draw(count, seed)), spec.condition, device)
        self.reach = _MARGIN * float(real.samples.abs().max())
        """How far the data goes from the origin, and a little more."""
        self._probe: CollapseProbe | None = None
        if count < _FEWEST_REAL:
            return  # too few to tell anything by
        shown, known = real[: count // _ONE_SHOWN_OF], real[count // _ONE_SHOWN_OF :]
        rows = torch.arange(_LOOKED_AT, device=device) % len(shown.samples)
        self._condition = None if shown.condition is None else shown.condition[rows]
        self._latents = draw_latents(spec, seed, device, World(), _LOOKED_AT)
        self._probe = CollapseProbe(known.samples, shown, generator_for(seed, "clusters"))

    @torch.no_grad()
    def look(self) -> ProbeReading | None:
        """None where there is too little to look at, or where it is not finite."""
        if self._probe is None:
            return None
        samples = self._algorithm.ema.generator(self._latents, self._condition)
        if not samples.isfinite().all():
            return None
        return self._probe.look(Batch(samples, self._condition), self._algorithm.logits)


def _means(losses: Sequence[Losses]) -> dict[str, float]:
    return {name: fmean(each[name] for each in losses) for name in losses[0]}
