"""A version of a model as requests see it, and a file that is not served."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from latentd.models.card import Card
from latentd.models.decision_surface import DecisionSurface
from latentd.models.directions import Directions
from latentd.models.fingerprint import Fingerprint, fingerprint_id
from latentd.models.stage_input import StageSignature
from latentd.service.catalog.files import OpenFile
from latentd.service.engine import Calibration, StageExecutor


@dataclass(frozen=True)
class LoadFailure:
    """A file that is not served, and why."""

    file: str
    error: str


class DeployedStage(NamedTuple):
    """A stage of a model on its device."""

    takes: StageSignature
    executor: StageExecutor


@dataclass(frozen=True)
class Deployment:
    """A model on its device: its stages in order, the last of which computes samples."""

    stages: tuple[DeployedStage, ...]

    @property
    def last(self) -> StageExecutor:
        """The executor of the last stage."""
        return self.stages[-1].executor


@dataclass(eq=False)
class ServedModel:
    """A version of a model. Its weights are on the device or, if memory is short, only in the file."""

    name: str
    version: str
    card: Card
    file: Path
    open_file: OpenFile
    """The file that the model was loaded from. The model is loaded from it again after an eviction."""
    weight_bytes: int
    calibrations: list[Calibration]
    """One per stage, as of loading or of the last eviction."""
    fingerprint: Fingerprint
    deployment: Deployment | None
    """None while the model is evicted."""
    directions: Directions | None = None
    decision_surface: DecisionSurface | None = None
    unusable_sidecars: dict[Path, str] = field(default_factory=dict)
    """Sidecars of the file that are not served, and why."""
    last_used: float = field(default=0.0)
    """time.monotonic() of the last request."""

    @property
    def batch_sizes(self) -> list[int]:
        """The sizes of forward pass that the last stage runs in."""
        last = self.deployment.last.calibration if self.deployment else self.calibrations[-1]
        return last.sizes

    @property
    def directions_version(self) -> str | None:
        """The version of the directions; None if there are none."""
        return self.directions.version if self.directions else None

    @cached_property
    def fingerprint_id(self) -> str:
        """12 hex digits, a hash of the fingerprint."""
        return fingerprint_id(self.fingerprint)
