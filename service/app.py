"""The BentoML service. It starts and stops the parts, and declares the API to BentoML's clients and pages."""

import logging
import sys
from typing import Any

import bentoml
from pydantic import ValidationError
from starlette.types import ASGIApp

from latentd.models.hardware import (
    choose_device,
    configure_device,
    memory_bytes,
    reduce_gc_pauses,
    use_serving_threads,
)
from latentd.models.validation import first_problem
from latentd.service.catalog import Catalog, Loader
from latentd.service.drain import drain_on_signal
from latentd.service.engine import Engine, Observers
from latentd.service.engine.threads import engine_threads
from latentd.service.gateway import Gateway
from latentd.service.guard.auth import access_from
from latentd.service.guard.connections import ConnectionLimits, guard_connections
from latentd.service.observability.formatter import configure_logging, formatter_for
from latentd.service.observability.middleware import EngineTimings
from latentd.service.observability.spans import tracing_from_environment
from latentd.service.route import InProcess, Route
from latentd.service.routes import ROUTES
from latentd.service.runtime import Runtime
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from latentd.service.telemetry.exposition import exposition

try:
    settings = Settings()
    device = choose_device(settings.device)
except ValidationError as problem:
    first = first_problem(problem)
    sys.exit(f"latentd cannot start: LATENTD_{(first.field or '').upper()}: {first.message}")
except ValueError as problem:
    sys.exit(f"latentd cannot start: LATENTD_DEVICE: {problem}")
try:
    access = access_from(settings)
except ValueError as problem:
    sys.exit(f"latentd cannot start: {problem}")
_started: list[Runtime] = []
"""The runtimes that have started. If a process starts several, the last one is used."""

logging.getLogger("latentd").setLevel(logging.INFO)  # BentoML's default is to log warnings only
formatter = formatter_for(settings.log)
configure_logging(formatter)
logger = logging.getLogger("latentd.service")


class GatewayService(bentoml.Service):  # type: ignore[misc]  # bentoml exports it without its type
    """Puts the Gateway in front of BentoML's app, and limits the connections to it."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        limits = ConnectionLimits(settings.receive_timeout, settings.send_timeout, settings.max_body)
        guard_connections(limits, lambda code: _started[-1].telemetry.rejections.add(code))
        access_log = formatter if settings.access_log == "on" else None
        return Gateway(super().to_asgi(is_main), lambda: _started[-1], access, access_log)


class Server:
    """Generates samples from latents. A sample is named by model version, seed and parameters."""

    def __init__(self) -> None:
        configure_device(device)
        use_serving_threads(device)
        telemetry = Telemetry([route.path for route in ROUTES if route.in_process])
        tracing = tracing_from_environment()
        observer = Observers(telemetry, EngineTimings(), *([tracing] if tracing else []))
        engine = Engine(2 * settings.max_queue, **engine_threads(device), observer=observer)
        loader = Loader(device, engine, deterministic=settings.determinism == "bitwise")
        memory = settings.model_memory or memory_bytes(device) // 2
        catalog = Catalog(settings.catalog_paths, loader, settings.default_model, memory, telemetry)
        self.runtime = Runtime(settings, catalog, engine, telemetry, tracing)
        engine.start()
        catalog.start()
        _started.append(self.runtime)
        drain_on_signal(engine, settings.drain)
        reduce_gc_pauses()

    def __is_ready__(self) -> bool:
        return self.runtime.ready

    def __is_alive__(self) -> bool:
        return self.runtime.engine.alive  # a thread that has died does not come back

    def __metrics__(self, bentoml_metrics: str) -> str:
        return bentoml_metrics + exposition(self.runtime, access, device)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # in bentoml
    def close(self) -> None:
        """Finish the queued work, and stop."""
        self.runtime.catalog.close()
        self.runtime.engine.close()
        if self.runtime.tracing is not None:
            self.runtime.tracing.close()
        _started.remove(self.runtime)


def _declare(route: Route, in_process: InProcess) -> Any:
    """Return a method that declares `route` to BentoML's clients and pages, and answers calls inside the process.

    Requests over HTTP never reach it: the Gateway answers them.
    """

    async def answer(self: Server, **fields: Any) -> dict[str, Any]:
        return await in_process(self.runtime, fields)

    answer.__name__, answer.__doc__ = route.operation, route.summary
    return bentoml.api(route=route.path, input_spec=route.body)(answer)


for _route in ROUTES:
    if _route.in_process is not None:
        setattr(Server, _route.operation, _declare(_route, _route.in_process))

Latentd = bentoml.service(
    name="latentd",
    workers=1,
    service_class=GatewayService,
    logging={"access": {"enabled": False}},  # our own access log has all requests
)(Server)
