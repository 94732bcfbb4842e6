"""The BentoML service: starts the parts, declares the API for BentoML's clients and pages, stops the parts."""

import logging
import os
import sys
from typing import Any

import bentoml
import torch
from pydantic import ValidationError
from starlette.types import ASGIApp

from latentd.models.hardware import choose_device, configure_device, core_count, memory_bytes, reduce_gc_pauses
from latentd.models.validation import first_problem
from latentd.service.api import Runtime, answer_in_process
from latentd.service.catalog import Catalog, Loader
from latentd.service.drain import drain_on_signal
from latentd.service.endpoints import ENDPOINTS
from latentd.service.engine import Engine, Observers
from latentd.service.gateway import Gateway
from latentd.service.guard.auth import configured
from latentd.service.guard.connections import ConnectionLimits, guard_connections
from latentd.service.guard.headers import SecurityHeaders
from latentd.service.observability.formatter import form_for, set_up
from latentd.service.observability.middleware import EngineTimings, Journal
from latentd.service.observability.spans import tracing_from_environment
from latentd.service.schemas import GenerateRequest, InterpolateRequest, MixRequest, NeighborsRequest
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from latentd.service.telemetry.exposition import exposition

try:
    settings = Settings()
    device = choose_device(settings.device)
except ValidationError as problem:
    found = first_problem(problem)
    sys.exit(f"latentd cannot start: LATENTD_{(found.field or '').upper()}: {found.message}")
except ValueError as problem:
    sys.exit(f"latentd cannot start: LATENTD_DEVICE: {problem}")
try:
    access = configured(settings)
except ValueError as problem:
    sys.exit(f"latentd cannot start: {problem}")
_started: list[Runtime] = []
"""The running service's parts; the last one counts, where a process starts several."""

# BentoML would leave out what is less than a warning.
logging.getLogger("latentd").setLevel(logging.INFO)
form = form_for(settings.log)
set_up(form)
logger = logging.getLogger("latentd.service")


class GatewayService(bentoml.Service):  # type: ignore[misc]  # bentoml exports it without its type
    """Puts the Gateway before BentoML, the Journal before both, and guards the connections to them."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        patience = ConnectionLimits(settings.receive_timeout, settings.send_timeout, settings.max_body)
        guard_connections(patience, lambda code: _started[-1].telemetry.rejections.add(code))
        gateway = Gateway(super().to_asgi(is_main), lambda: _started[-1], access)
        written = form if settings.access_log == "on" else None
        return SecurityHeaders(Journal(gateway, written, lambda: _started[-1].tracing))


@bentoml.service(
    name="latentd",
    workers=1,
    service_class=GatewayService,
    logging={"access": {"enabled": False}},  # the Journal's lines tell of all routes
)
class Latentd:
    """Batched latent-to-sample inference. A sample is named by model version, seed and parameters."""

    def __init__(self) -> None:
        _prepare(device)
        telemetry = Telemetry([endpoint.path for endpoint in ENDPOINTS])
        tracing = tracing_from_environment()
        observer = Observers(telemetry, EngineTimings(), *([tracing] if tracing else []))
        engine = Engine(settings.max_queue, **_passes(device), observer=observer)
        loader = Loader(device, engine, deterministic=settings.determinism == "bitwise")
        memory = settings.model_memory or memory_bytes(device) // 2
        catalog = Catalog(settings.catalog_paths, loader, settings.default_model, memory, telemetry)
        self.runtime = Runtime(settings, catalog, engine, telemetry, tracing)
        engine.start()
        catalog.start()
        _started.append(self.runtime)
        drain_on_signal(engine, settings.drain)
        reduce_gc_pauses()

    # Over HTTP the Gateway answers these routes, raw formats and errors included; here they are declared to BentoML's
    # clients and pages, and answer calls from within the process.

    @bentoml.api(route="/generate", input_spec=GenerateRequest)  # type: ignore[untyped-decorator]  # in bentoml
    async def generate(self, **fields: Any) -> dict[str, Any]:
        """Samples of seeds or latents."""
        return await self._answer("/generate", fields)

    @bentoml.api(route="/interpolate", input_spec=InterpolateRequest)  # type: ignore[untyped-decorator]  # in bentoml
    async def interpolate(self, **fields: Any) -> dict[str, Any]:
        """A way through latent space, frame by frame or as an animation."""
        return await self._answer("/interpolate", fields)

    @bentoml.api(route="/mix", input_spec=MixRequest)  # type: ignore[untyped-decorator]  # in bentoml
    async def mix(self, **fields: Any) -> dict[str, Any]:
        """One sample of several places in latent space."""
        return await self._answer("/mix", fields)

    @bentoml.api(route="/neighbors", input_spec=NeighborsRequest)  # type: ignore[untyped-decorator]  # in bentoml
    async def neighbors(self, **fields: Any) -> dict[str, Any]:
        """Samples at an angle around a place in latent space."""
        return await self._answer("/neighbors", fields)

    async def _answer(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        (endpoint,) = (each for each in ENDPOINTS if each.path == path)
        return await answer_in_process(self.runtime, endpoint, fields)

    def __is_ready__(self) -> bool:
        return self.runtime.ready

    def __is_alive__(self) -> bool:
        return self.runtime.engine.alive  # a thread that is gone does not come back

    def __metrics__(self, bentomls_own: str) -> str:
        return bentomls_own + exposition(self.runtime, access, device)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # in bentoml
    def close(self) -> None:
        """Finish what is queued, then stop."""
        self.runtime.catalog.close()
        self.runtime.engine.close()
        if self.runtime.tracing is not None:
            self.runtime.tracing.close()
        _started.remove(self.runtime)


def _prepare(device: torch.device) -> None:
    """Set torch up for serving on `device`."""
    configure_device(device)
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def _passes(device: torch.device) -> dict[str, int]:
    """How many passes run side by side, how many are launched ahead, and how many batches are encoded meanwhile.

    On a CPU every core carries a batch of its own from the latents to the last encoded byte, on one thread: passes
    never wait for each other's threads, and while one core encodes the others compute. OMP_NUM_THREADS gives a pass
    more threads; where that leaves one pass at a time, another thread encodes. A GPU runs one pass after another and
    has the next one waiting, so that it never waits for Python, while the CPU's cores encode.
    """
    if device.type == "cuda":
        return {"parallel": 1, "ahead": 1, "encoders": core_count()}
    parallel = max(1, core_count() // torch.get_num_threads())
    return {"parallel": parallel, "encoders": 1 if parallel == 1 else 0}
