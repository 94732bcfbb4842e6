"""One version of a model as requests see it, and a file that could not become one."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from latentd.models.checkpoint import Card
from latentd.models.decision_surface import DecisionSurface
from latentd.models.directions import Directions
from latentd.models.fingerprint import Fingerprint, fingerprint_id
from latentd.models.interpolation import Vector
from latentd.service.catalog.files import OpenFile
from latentd.service.engine import Calibration, StageExecutor


@dataclass(frozen=True)
class LoadFailure:
    """A file that is not served, and why."""

    file: str
    error: str


@dataclass(frozen=True)
class Deployment:
    """A model on its device: a executor for each of its stages."""

    synthesis_executor: StageExecutor
    """Gives samples: of latents, or of w where there is a stage before."""
    mapping_executor: StageExecutor | None = None
    """Gives w of latents."""
    mean_w: Vector | None = None
    """[w.dim]: what truncation moves w toward."""

    @property
    def executors(self) -> list[StageExecutor]:
        """In the order of the stages."""
        return (
            [self.synthesis_executor]
            if self.mapping_executor is None
            else [self.mapping_executor, self.synthesis_executor]
        )


@dataclass(eq=False)
class ServedModel:
    """One version of a model. Its weights may be on the device or, where memory is short, only in the file."""

    name: str
    version: str
    card: Card
    file: Path
    open_file: OpenFile
    """The file as it was when this was loaded: what this is loaded from again."""
    weight_bytes: int
    calibrations: list[Calibration]
    """Each stage's, as far as it was known when this was loaded or left the device."""
    fingerprint: Fingerprint
    deployment: Deployment | None
    """None: not on the device; it comes back on demand."""
    directions: Directions | None = None
    decision_surface: DecisionSurface | None = None
    unusable_sidecars: dict[Path, str] = field(default_factory=dict)
    """Sidecars of the file that are not served, and why."""
    last_used: float = field(default=0.0)

    @property
    def batch_sizes(self) -> list[int]:
        """Samples in a forward pass, as it may be run."""
        last = self.deployment.synthesis_executor.calibration if self.deployment else self.calibrations[-1]
        return last.sizes

    @property
    def directions_version(self) -> str | None:
        """None where there are no directions."""
        return self.directions.version if self.directions else None

    @cached_property
    def fingerprint_id(self) -> str:
        """12 hex digits that stand for the fingerprint."""
        return fingerprint_id(self.fingerprint)
