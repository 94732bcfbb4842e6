"""The parts of a running service. Every handler gets them."""

from dataclasses import dataclass
from functools import cached_property

from latentd.service.admission import Admission
from latentd.service.catalog import Catalog
from latentd.service.engine import Engine
from latentd.service.observability.spans import Tracing
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry


@dataclass(frozen=True)
class Runtime:
    """The parts of a service that has started."""

    settings: Settings
    catalog: Catalog
    engine: Engine
    telemetry: Telemetry
    tracing: Tracing | None = None
    """None if no exporter of spans is configured."""

    @cached_property
    def admission(self) -> Admission:
        """The budgets that clients share."""
        settings = self.settings
        return Admission(settings.max_requests, settings.max_queue, settings.max_body, self.engine.seconds_for)

    @property
    def ready(self) -> bool:
        """Whether the service can answer with samples: it has a model, and the engine runs."""
        return bool(self.catalog.models) and self.engine.alive
