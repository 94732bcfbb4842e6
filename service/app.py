"""The BentoML service: starts the parts, declares the API for BentoML's clients and pages, stops the parts."""

import gc
import json
import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

import bentoml
import torch
from starlette.types import ASGIApp

from models.hardware import choose_device, core_count, keep_freed_memory, memory_bytes
from service.catalog import Catalog, Loader
from service.engine import Engine
from service.http import Gateway, Runtime, answer_generate, create_api
from service.schemas import GenerateRequest
from service.settings import Settings

settings = Settings()
api = create_api()

# BentoML writes the logs; it would leave out what is less than a warning.
logging.getLogger("latentd").setLevel(logging.INFO)
logger = logging.getLogger("latentd.service")


class GatewayService(bentoml.Service):  # type: ignore[misc]  # bentoml exports it without its type
    """Lets the Gateway answer before BentoML's own middleware, which costs a request more than the engine does."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        return Gateway(super().to_asgi(is_main), api)


@bentoml.service(name="latentd", workers=1, service_class=GatewayService)
class Latentd:
    """Batched latent-to-sample inference. A sample is named by model version, seed and parameters."""

    def __init__(self) -> None:
        device = choose_device(settings.device)
        _prepare(device)
        engine = Engine(settings.max_queue, **_passes(device))
        loader = Loader(device, engine, deterministic=settings.determinism == "bitwise")
        memory = settings.model_memory or memory_bytes(device) // 2
        catalog = Catalog(settings.catalog_paths, loader, settings.default_model, memory)
        self.runtime = Runtime(settings, catalog, engine)
        engine.start()
        catalog.start()
        api.state.runtime = self.runtime
        _drain_on_signal(engine, settings.drain)
        gc.freeze()  # what is loaded by now stays; looking through it again and again would stop the service for 0.1 s

    @bentoml.api(route="/generate", input_spec=GenerateRequest)  # type: ignore[untyped-decorator]  # in bentoml
    async def generate(self, **fields: Any) -> dict[str, Any]:
        """Samples from seeds or latents.

        Over HTTP the Gateway answers this route, raw formats and errors included; this declares it to BentoML's
        clients and pages, and answers calls from within the process.
        """
        answer = await answer_generate(self.runtime, GenerateRequest(**fields), accept="")
        body: dict[str, Any] = json.loads(answer.body)
        return body

    def __is_ready__(self) -> bool:
        return bool(self.runtime.catalog.models) and self.runtime.engine.alive

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # in bentoml
    def close(self) -> None:
        """Finish what is queued, then stop."""
        self.runtime.catalog.close()
        self.runtime.engine.close()


def _prepare(device: torch.device) -> None:
    """Set torch up for serving on `device`."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True  # some of cuDNN's convolutions add in any order
        return
    keep_freed_memory()
    if "OMP_NUM_THREADS" not in os.environ:
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


def _drain_on_signal(engine: Engine, seconds: float) -> None:
    """Once told to stop, give requests `seconds` to finish; the server itself waits for them without end."""
    if threading.current_thread() is not threading.main_thread():
        return  # in-process use: signals are the host's
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        logger.info("told to stop; requests have %g seconds to finish", seconds)
        timer = threading.Timer(seconds, engine.abort)
        timer.daemon = True
        timer.start()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, stop)
