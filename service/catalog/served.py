"""A version of a model, as requests use it, and a file that is not served."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
    """A version of a model under one name. Its weights are on the device, or only in the file until they are needed."""

    name: str
    version: str
    card: Card
    file: Path
    open_file: OpenFile | None
    """The file from which the model was loaded, and is loaded again after an eviction. None before the model is first
    loaded."""
    weight_bytes: int
    calibrations: list[Calibration]
    """One for each stage, from the time of loading or of the last eviction. Empty before the model is first loaded."""
    fingerprint: Fingerprint
    """Before the model is first loaded: the fingerprint if the device repeats itself to the bit."""
    deployment: Deployment | None
    """None while the model is not on the device."""
    directions: Directions | None = None
    decision_surface: DecisionSurface | None = None
    unusable_sidecars: dict[Path, str] = field(default_factory=dict)
    """Sidecars of the file that are not served, and why."""
    last_used: float = field(default=0.0)
    """time.monotonic() of the last request."""
    fingerprint_id: str = field(init=False)
    """12 hex digits, a hash of the fingerprint."""

    def __post_init__(self) -> None:
        self.fingerprint_id = fingerprint_id(self.fingerprint)

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def was_loaded(self) -> bool:
        """Whether the model was ever on the device."""
        return bool(self.calibrations)

    @property
    def batch_sizes(self) -> list[int]:
        """The batch sizes of the last stage; none before the model is first loaded."""
        calibrations: Sequence[Calibration] = self.calibrations
        if self.deployment:
            calibrations = [self.deployment.last.calibration]
        return calibrations[-1].sizes if calibrations else []

    @property
    def directions_version(self) -> str | None:
        """The version of the directions; None if there are none."""
        return self.directions.version if self.directions else None

    def place(self, deployment: Deployment, open_file: OpenFile, fingerprint: Fingerprint) -> None:
        """Set the deployment, and the file from which the model was loaded."""
        self.calibrations = [stage.executor.calibration for stage in deployment.stages]
        self.open_file = open_file
        self.fingerprint = fingerprint
        self.fingerprint_id = fingerprint_id(fingerprint)
        self.deployment = deployment

    def under_name(self, name: str) -> "ServedModel":
        """Return the same version under another name. It is loaded separately, because samples contain the name."""
        return replace(self, name=name, deployment=None, calibrations=[])
