"""Callbacks: what is done with a run while it trains, and what they see of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec

from pydantic import JsonValue

from latentd.models.card import Card
from latentd.models.checkpoint import Checkpoint
from latentd.models.family import Generator
from latentd.training.algorithms.base import Algorithm, Losses
from latentd.training.data.source import DataSource
from latentd.training.run.collapse_probe import ProbeReading

P = ParamSpec("P")


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


@dataclass(frozen=True)
class SampleFile:
    """Samples of the generator as a file. Their latents are the same in all steps."""

    content: bytes
    suffix: str
    """`png` for a picture, `json` for numbers: {"samples": rows, …}."""


@dataclass
class ActiveRun:
    """A run while it trains, as its callbacks see it."""

    path: Path
    """The checkpoint file that it will write. Its folder is the run's."""
    card: Card
    """The facts that all checkpoints of the run share: recipe, settings, data, seed, hardware, versions."""
    algorithm: Algorithm
    source: DataSource
    steps: int
    """Planned steps."""
    steps_done: int = 0
    """Steps before the run was resumed; 0 for a new run."""
    step: int = 0
    """The last step that was done, counted from 1."""
    seconds: float = 0.0
    """Training time at that step, before the run was resumed included."""
    losses: Losses = field(default_factory=dict)
    """The losses of that step."""
    has_ended: bool = False
    """Whether no step will follow."""
    checkpoint: Checkpoint | None = None
    """The generator that the run ended with, when it is saved."""
    best: Mapping[str, JsonValue] | None = None
    """`name`, `step`, `value` and `version` of the best generator; None if it is the last one, or none was measured."""
    call_all: Callable[..., None] = lambda *_: None
    """Calls a method of all callbacks, by its name. Set by the handler; use `tell` and `log`."""

    @property
    def folder(self) -> Path:
        """The folder of the run's files."""
        return self.path.parent

    @property
    def generator(self) -> Generator:
        """The averaged generator: the one that is saved and served."""
        return self.algorithm.ema.generator

    @property
    def status(self) -> str:
        """`running`, `finished`, or `stopped` if it ended before the last step."""
        if not self.has_ended:
            return "running"
        return "finished" if self.step == self.steps else "stopped"

    def tell(
        self, message: "Callable[Concatenate[Callback, ActiveRun, P], None]", *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call a method of all callbacks: `run.tell(Callback.on_evaluation, result)`."""
        self.call_all(message.__name__, *args, **kwargs)

    def log(self, kind: str, values: Mapping[str, Any]) -> None:
        """Tell all callbacks what was measured at this step. It is written to `metrics.jsonl`, under the key `kind`.

        `kind`: `losses`, `vitals` (the collapse probe's), `figures` (metrics), `alarm`, or a name of your own.
        Floats become curves.
        """
        self.tell(Callback.on_log, kind, values)


class Callback:
    """Does something with a run while it trains. Override the methods that you need.

    A callback changes nothing that the run learns. If it fails, this is logged once, and the run goes on.
    """

    required: ClassVar[bool] = False
    """Whether the run ends if this callback fails."""

    def on_start(self, run: ActiveRun) -> None:
        """Prepare. A LatentdError ends the run; after any other error the run goes on without this callback."""

    def on_step(self, run: ActiveRun) -> None:
        """Act after a step."""

    def on_end(self, run: ActiveRun) -> None:
        """Act after the last step, or the step at which the run was stopped. `run.step` is 0 if it did none."""

    def on_error(self, run: ActiveRun, error: BaseException) -> None:
        """Act when the run failed. `on_end` is not called then."""

    # what callbacks tell each other

    def on_log(self, run: ActiveRun, kind: str, values: Mapping[str, Any]) -> None:
        """Take in what a callback measured at this step (`ActiveRun.log`)."""

    def on_reading(self, run: ActiveRun, reading: ProbeReading) -> None:
        """Take in a reading of the collapse probe."""

    def on_evaluation(self, run: ActiveRun, result: EvaluationResult) -> None:
        """Take in metrics of the generator on held-out data."""

    def on_samples(self, run: ActiveRun, samples: SampleFile) -> None:
        """Take in samples of the generator at this step."""

    def on_nearest(self, run: ActiveRun, picture: bytes, distances: Mapping[str, JsonValue]) -> None:
        """Take in a picture (PNG) of samples beside their nearest training images, and the distances."""


class PeriodicCallback(Callback):
    """Does something that takes long, now and then while the run trains and once at its end.

    While the run trains, it takes no more than a fraction of its time.
    """

    time_fraction: ClassVar[float]
    """The fraction of the run's time that `act` may take."""

    def is_due(self, run: ActiveRun) -> bool:
        """Whether to act after this step. If there is no time for it now, this happens as soon as there is."""
        return True

    def act(self, run: ActiveRun) -> None:
        """Do the work, for the generator after this step."""
        raise NotImplementedError
