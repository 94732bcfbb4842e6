"""The parts of a running service, which all handlers of requests work with."""

from dataclasses import dataclass
from functools import cached_property

from latentd.service.catalog import Catalog
from latentd.service.engine import Engine, Room
from latentd.service.guard.turns import Turns
from latentd.service.observability.spans import Tracing
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry

_BODIES_HELD = 16
"""Of the largest size, at a time: small ones are hardly ever that many, and large ones would fill the memory."""


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
    def places(self) -> Room:
        """Of requests under way."""
        return Room(self.settings.max_requests)

    @cached_property
    def bodies(self) -> Room:
        """In bytes, of requests that are not over."""
        return Room(_BODIES_HELD * self.settings.max_body)

    @cached_property
    def turns(self) -> Turns:
        """For the work between a request's body and its answer."""
        return Turns()

    @property
    def ready(self) -> bool:
        """Whether the service can answer with samples: it has a model, and the engine runs."""
        return bool(self.catalog.models) and self.engine.alive
