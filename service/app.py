"""The BentoML service: starts the parts, declares the API for BentoML's clients and pages, stops the parts."""

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bentoml
import torch

from models.hardware import choose_device
from service.catalog import load_catalog
from service.engine import Engine
from service.http import Gateway, Runtime, answer_generate, create_api
from service.schemas import GenerateRequest
from service.settings import Settings

settings = Settings()
api = create_api()

# BentoML writes the logs; it would leave out what is less than a warning.
logging.getLogger("latentd").setLevel(logging.INFO)

# BentoML's own timeout answers with a body of its own, so ours comes first.
_GRACE_SECONDS = 30


@bentoml.service(name="latentd", workers=1, traffic={"timeout": settings.timeout + _GRACE_SECONDS})
class Latentd:
    """Batched latent-to-sample inference. A sample is named by model version, seed and parameters."""

    def __init__(self) -> None:
        torch.backends.cudnn.deterministic = True  # some of cuDNN's convolutions add in any order
        self.runtime = Runtime(
            settings=settings,
            catalog=load_catalog(settings.catalog_paths(), settings.default_model, choose_device(settings.device)),
            engine=Engine(settings.max_queue),
            workers=ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="latentd-worker"),
        )
        self.runtime.engine.start()
        api.state.runtime = self.runtime

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
        self.runtime.engine.close()
        self.runtime.workers.shutdown()


# bentoml types a decorated class as the class itself, not as the Service that it is
Latentd.add_asgi_middleware(Gateway, api=api)  # type: ignore[attr-defined]
