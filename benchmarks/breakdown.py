"""Where the time of a lone request goes: `python -m benchmarks.breakdown`.

The parts of the service run in this process behind uvicorn. Time stamps are taken between them, and one client sends
requests from another process. What remains of the client's latency is uvicorn, the kernel and the client itself.
"""

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import uvicorn
from starlette.applications import Starlette

from benchmarks import processes, report
from benchmarks.rivals.work import MODEL
from latentd.models.hardware import keep_freed_memory, memory_bytes, reduce_gc_pauses
from latentd.service.catalog import Catalog, Loader
from latentd.service.engine import Engine, Observers, StageExecutor, delivery
from latentd.service.gateway import Gateway
from latentd.service.observability.formatter import Formatter
from latentd.service.observability.middleware import EngineTimings
from latentd.service.runtime import Runtime
from latentd.service.samples.job import prepare_job
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry

_STAGES = [
    ("parse", "arrived", "planned"),
    ("draw latents", "planned", "submitted"),
    ("queue", "submitted", "computing"),
    ("forward", "computing", "computed"),
    ("encode and assemble", "computed", "encoded"),
    ("deliver", "encoded", "delivered"),
    ("write", "delivered", "written"),
]


class TimeStamps:
    """Time stamps of requests that come one after another."""

    def __init__(self) -> None:
        self.current: dict[str, float] = {}
        self.all: list[dict[str, float]] = []

    def around(self, function: Callable[..., Any], before: str | None, after: str | None) -> Callable[..., Any]:
        """Return `function` with a time stamp named `before` at its start and one named `after` at its end."""

        def stamped(*args: Any, **kwargs: Any) -> Any:
            if before:
                self.current.setdefault(before, time.perf_counter())  # a request of several passes: the first one
            result = function(*args, **kwargs)
            if after:
                self.current[after] = time.perf_counter()
            return result

        return stamped

    def around_app(self, app: Gateway) -> Any:
        """Return `app` with time stamps at a request's arrival and at the end of its answer."""

        async def stamped(scope: Any, receive: Any, send: Any) -> None:
            self.current = {"arrived": time.perf_counter()}
            await app(scope, receive, send)
            self.current["written"] = time.perf_counter()
            if len(self.current) == len(_STAGES) + 1:
                self.all.append(self.current)

        return stamped


@contextmanager
def serving_here(
    around: Callable[[Gateway], Any], formatter: Formatter | None = None
) -> Iterator[tuple[processes.Server, Runtime]]:
    """Run the parts of the service in this process, as service/app.py does on a CPU; `around` wraps the app.

    `formatter`: of the access log; None: there is no log.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    settings = Settings()
    telemetry = Telemetry()
    engine = Engine(2 * settings.max_queue, parallel=2, encoders=0, observer=Observers(telemetry, EngineTimings()))
    catalog = Catalog(
        settings.catalog_paths,
        Loader(torch.device("cpu"), engine, deterministic=True),
        MODEL,
        memory_bytes(torch.device("cpu")) // 2,
        telemetry,
    )
    engine.start()
    catalog.start()
    reduce_gc_pauses()
    runtime = Runtime(settings, catalog, engine, telemetry)
    port = processes.free_port()
    app = around(Gateway(Starlette(), lambda: runtime, formatter=formatter))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield processes.Server(f"http://127.0.0.1:{port}", os.getpid(), Path(os.devnull)), runtime
    server.should_exit = True
    thread.join()
    catalog.close()
    engine.close()


@contextmanager
def running(stamps: TimeStamps) -> Iterator[processes.Server]:
    """Run the service with time stamps between its parts."""
    with (
        serving_here(stamps.around_app) as (server, _),
        mock.patch("latentd.service.samples.handler.prepare_job", stamps.around(prepare_job, "planned", None)),
        mock.patch.object(Engine, "submit", stamps.around(Engine.submit, None, "submitted")),
        mock.patch.object(StageExecutor, "compute", stamps.around(StageExecutor.compute, "computing", "computed")),
        mock.patch.object(Engine, "_encode", stamps.around(Engine._encode, None, "encoded")),
        mock.patch.object(delivery, "_settle", stamps.around(delivery._settle, None, "delivered")),
    ):
        yield server


def main() -> None:
    """Run both sizes and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="per number of samples")
    parser.set_defaults(warm_up=2.0)
    options = report.parse(parser, seconds=1.0, warm_up=0.1)
    results: dict[str, Any] = {"machine": report.machine(), "milliseconds": {}}
    for samples in (1, 16):
        stamps = TimeStamps()
        with running(stamps) as server:
            seen = processes.load(server, clients=1, samples=samples, seconds=options.seconds, warm_up=options.warm_up)
        stages = {
            name: statistics.median((request[end] - request[start]) * 1e3 for request in stamps.all)
            for name, start, end in _STAGES
        }
        stages["uvicorn, kernel and client"] = seen["p50_ms"] - sum(stages.values())
        results["milliseconds"][f"{samples} samples"] = {**stages, "latency of the client": seen["p50_ms"]}
    names = list(results["milliseconds"]["1 samples"])
    table = report.markdown(
        ["stage", "1 sample: ms", "16 samples: ms"],
        [[name, *(results["milliseconds"][f"{samples} samples"][name] for samples in (1, 16))] for name in names],
    )
    report.write(options.results, "breakdown", results, table)


if __name__ == "__main__":
    main()
