"""latentd with nothing counted, for benchmarks/telemetry.py: `bentoml serve benchmarks.without_telemetry:Latentd`."""

from typing import Any

from starlette.types import Receive, Scope, Send

from service import app, gateway
from service.app import Latentd as Latentd
from service.engine import Engine
from service.telemetry import Telemetry


async def _pass_on(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
    await self._app(scope, receive, send)


def _unobserved(*settings: Any, observer: object, **more: Any) -> Engine:
    del observer
    return Engine(*settings, **more)


gateway._Counted.__call__ = _pass_on  # type: ignore[method-assign]
app.Engine = _unobserved  # type: ignore[assignment, attr-defined]  # it is meant for the module itself
Telemetry.request = Telemetry.batch_done = lambda *_: None  # type: ignore[method-assign, assignment]
