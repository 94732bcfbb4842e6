"""What callbacks that log a run to a tracking service share."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from latentd.models.errors import LatentdError
from latentd.models.files import atomic_write
from latentd.training.recipes.files import flatten
from latentd.training.run.callback import ActiveRun, Callback, SampleFile


class TrackerMissing(LatentdError):
    """The library of a tracking service is not installed; the message says how to install it."""


class Tracker(Callback, ABC):
    """Logs a run to a service: settings, losses, probe readings, metrics, alarms, samples, the checkpoint's version.

    The service's id of the run is kept in the run's folder, so that a run that resumes is one run there too.
    """

    name: ClassVar[str]
    """The name of the service's module and of its extra."""

    def __init__(self) -> None:
        """Import the library. Raises TrackerMissing."""
        try:
            self.library: Any = importlib.import_module(self.name)
        except ImportError as problem:
            raise TrackerMissing(f"{self.name} is not installed: pip install 'latentd[{self.name}]'") from problem

    def on_start(self, run: ActiveRun) -> None:
        kept = run.folder / f"{self.name}-run-id"
        run_id = self.open(run, _read(kept) if run.steps_done else None, _settings(run))
        with atomic_write(kept) as temporary:
            temporary.write_text(f"{run_id}\n")

    def on_log(self, run: ActiveRun, kind: str, values: Mapping[str, Any]) -> None:
        if numbers := {f"{kind}/{name}": value for name, value in values.items() if isinstance(value, float)}:
            self.log_numbers(run.step, numbers)
        if kind == "alarm":
            self.log_alarm(run.step, values["kind"], values["message"])

    def on_samples(self, run: ActiveRun, samples: SampleFile) -> None:
        self.log_samples(run.step, samples)

    def on_end(self, run: ActiveRun) -> None:
        facts: dict[str, Any] = {"step": run.step}
        if run.checkpoint:
            facts |= {"checkpoint": run.checkpoint.name, "version": run.checkpoint.version}
        if run.best:
            facts |= {"best_checkpoint": run.best["name"], "best_version": run.best["version"]}
        self.close(run.status, facts)

    def on_error(self, run: ActiveRun, error: BaseException) -> None:
        self.close("failed", {"step": run.step, "error": str(error) or repr(error)})

    @abstractmethod
    def open(self, run: ActiveRun, run_id: str | None, settings: Mapping[str, Any]) -> str:
        """Begin a run, or continue the one with `run_id`. Return its id."""

    @abstractmethod
    def log_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log numbers, each with the name of its curve."""

    @abstractmethod
    def log_alarm(self, step: int, kind: str, message: str) -> None:
        """Log an alarm of the collapse detector."""

    @abstractmethod
    def log_samples(self, step: int, samples: SampleFile) -> None:
        """Log samples."""

    @abstractmethod
    def close(self, status: str, facts: Mapping[str, Any]) -> None:
        """End the run. `status`: finished, stopped or failed. `facts`: what is known at the end."""


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None


def _settings(run: ActiveRun) -> dict[str, Any]:
    """Return what the run depends on: dotted key → value."""
    data = run.card.data
    return {"recipe": run.card.recipe, "seed": run.card.seed, "data": data.name, "data_sha256": data.sha256} | flatten(
        run.card.settings
    )
