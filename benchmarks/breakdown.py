"""Where the time of a lone request goes: `python -m benchmarks.breakdown`.

The service's own parts run in this process behind uvicorn, with marks at the seams between them; one client asks from
another process. What the client waits for beyond the marks is uvicorn, the kernel and the client itself.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from latentd.service.sample_job import prepare_job
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


class Marks:
    """Times at which a request passed the seams; one request is under way at a time."""

    def __init__(self) -> None:
        self.now: dict[str, float] = {}
        self.all: list[dict[str, float]] = []

    def around(self, function: Callable[..., Any], before: str | None, after: str | None) -> Callable[..., Any]:
        """`function`, marking when it is entered and left."""

        def marked(*args: Any, **kwargs: Any) -> Any:
            if before:
                self.now.setdefault(before, time.perf_counter())  # of the first pass, where there are several
            result = function(*args, **kwargs)
            if after:
                self.now[after] = time.perf_counter()
            return result

        return marked

    def around_request(self, app: Gateway) -> Any:
        """`app`, marking a request's arrival and the end of its answer."""

        async def marked(scope: Any, receive: Any, send: Any) -> None:
            self.now = {"arrived": time.perf_counter()}
            await app(scope, receive, send)
            self.now["written"] = time.perf_counter()
            if len(self.now) == len(_STAGES) + 1:
                self.all.append(self.now)

        return marked


@contextmanager
def serving_here(
    around: Callable[[Gateway], Any], formatter: Formatter | None = None
) -> Iterator[tuple[processes.Server, Runtime]]:
    """The service's parts in this process, as service/app.py puts them together for a CPU; its app is `around` ours."""
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
    yield processes.Server(f"http://127.0.0.1:{port}", 0, report.RESULTS), runtime
    server.should_exit = True
    thread.join()
    catalog.close()
    engine.close()


@contextmanager
def running(marks: Marks) -> Iterator[processes.Server]:
    """The same, marked."""
    with (
        serving_here(marks.around_request) as (server, _),
        mock.patch("latentd.service.sample_handler.prepare_job", marks.around(prepare_job, "planned", None)),
        mock.patch.object(Engine, "submit", marks.around(Engine.submit, None, "submitted")),
        mock.patch.object(StageExecutor, "compute", marks.around(StageExecutor.compute, "computing", "computed")),
        mock.patch.object(Engine, "_encode", marks.around(Engine._encode, None, "encoded")),
        mock.patch.object(delivery, "_settle", marks.around(delivery._settle, None, "delivered")),
    ):
        yield server


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": report.machine(), "milliseconds": {}}
    for samples in (1, 16):
        marks = Marks()
        with running(marks) as server:
            seen = processes.load(server, clients=1, samples=samples, seconds=options.seconds)
        stages = {
            name: statistics.median((each[end] - each[start]) * 1e3 for each in marks.all)
            for name, start, end in _STAGES
        }
        stages["uvicorn, kernel and client"] = seen["p50_ms"] - sum(stages.values())
        results["milliseconds"][f"{samples} samples"] = {**stages, "what the client waits": seen["p50_ms"]}
    names = list(results["milliseconds"]["1 samples"])
    table = report.markdown(
        ["stage", "1 sample: ms", "16 samples: ms"],
        [[name, *(results["milliseconds"][f"{samples} samples"][name] for samples in (1, 16))] for name in names],
    )
    report.write("breakdown", results, table)


if __name__ == "__main__":
    main()
