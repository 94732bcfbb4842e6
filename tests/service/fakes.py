"""Parts of the service that a test controls: a runner that blocks, and models and catalogs around it."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Any

import numpy as np
from starlette.types import ASGIApp

from latentd.models.card import Card
from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import StageInput, StageSignature
from latentd.service.catalog import Catalog, Deployment, LoadFailure, Names, ServedModel
from latentd.service.catalog.served import DeployedStage
from latentd.service.engine import Calibration, ForwardResult, StageExecutor
from tests.conftest import card_of, points_spec

SIZE = 16


class BlockingRunner:
    """Returns the first two numbers of each latent. Records each pass, and blocks it until `release`."""

    def __init__(self) -> None:
        self.passes: list[list[float]] = []
        self.started = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.problem: Exception | None = None

    def run(self, rows: StageInput, size: int, quantized: bool = False) -> ForwardResult:
        assert len(rows) <= size
        self.passes.append(rows.inputs[:, 0].tolist())
        self.started.release()
        assert self.gate.acquire(timeout=300)
        if self.problem is not None:
            raise self.problem
        return ForwardResult(rows.inputs[:, :2].copy(), size, 0.25)

    def release(self, count: int = 1000) -> None:
        self.gate.release(count)

    def wait_for_pass(self) -> None:
        assert self.started.acquire(timeout=300)


def calibration(*sizes: int) -> Calibration:
    """Return a calibration in which a pass takes 1 second, and 0.1 seconds more per sample."""
    return Calibration("bitwise", {size: 1.0 + 0.1 * size for size in sizes or (SIZE,)})


def executor(runner: BlockingRunner, *sizes: int, name: str = "gan") -> StageExecutor:
    return StageExecutor(name, runner, calibration(*sizes))


def served(
    executor: StageExecutor | None, name: str = "m", spec: GeneratorSpec | None = None, **changes: Any
) -> ServedModel:
    card: Card = card_of(spec or points_spec())
    fields: dict[str, Any] = {
        "name": name,
        "version": "0" * 12,
        "card": card,
        "file": None,
        "open_file": None,
        "weight_bytes": 100,
        "calibrations": [calibration()],
        "fingerprint": {"threads": 1, "determinism": "bitwise"},
        "deployment": executor and Deployment((DeployedStage(StageSignature("synthesis", "z"), executor),)),
    }
    return ServedModel(**fields | changes)


def rows(*values: float) -> StageInput:
    latents = np.zeros((len(values), 8), dtype=np.float32)
    latents[:, 0] = values
    return StageInput(latents)


def first_numbers(results: list[Any]) -> list[float]:
    return [float(sample[0]) for sample in results]


class AsgiRequest:
    """A POST that an ASGI app answers in a task. The test says when its body comes and when its client leaves."""

    def __init__(
        self,
        app: ASGIApp,
        body: Any,
        path: str = "/generate",
        headers: Mapping[str, str] = MappingProxyType({}),
        send_body: bool = True,
        more_body: bool = False,
    ) -> None:
        self.status = 0
        """0 until the answer begins."""
        self.headers: dict[str, str] = {}
        self.content = b""
        self.was_read = False
        """Whether the app asked for the body."""
        self._messages: list[Any] = [
            {"type": "http.request", "body": json.dumps(body).encode(), "more_body": more_body}
        ]
        self._may_send = asyncio.Event()
        self._left = asyncio.Event()
        if send_body:
            self.send_body()
        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "method": "POST", "path": path}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    def send_body(self) -> None:
        self._may_send.set()

    def leave(self) -> None:
        self._left.set()

    @property
    def error(self) -> tuple[int, str]:
        return self.status, json.loads(self.content)["error"]["code"]

    async def _receive(self) -> Any:
        self.was_read = True
        await self._may_send.wait()
        if self._messages:
            return self._messages.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.content += message["body"]


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test in an event loop of its own."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), timeout=300))

    return run


class Breakable(BlockingRunner):
    """Breaks where a row begins with 13."""

    def run(self, rows: StageInput, size: int, quantized: bool = False) -> ForwardResult:
        if 13 in rows.inputs[:, 0]:
            raise RuntimeError("the model broke")
        return super().run(rows, size, quantized)


class FixedCatalog(Catalog):
    """One model without a file."""

    def __init__(self, model: ServedModel) -> None:
        self.names = Names.of(model)
        self.failures: list[LoadFailure] = []
        self._default_name = model.name
