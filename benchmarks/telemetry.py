"""The cost of metrics and the log: one server under a steady load, with both on and both off in turn.

`python -m benchmarks.telemetry`. The server runs in this process and the load generator in another one. Each slice of
time is compared with the next one, so that other work of the machine affects both. The processor time per request is
compared too: other work changes it less than the requests per second.
"""

import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

from benchmarks import processes, report
from benchmarks.breakdown import serving_here
from latentd.service.gateway import Gateway
from latentd.service.observability import access_log
from latentd.service.observability.formatter import as_json
from latentd.service.observability.middleware import RequestMiddleware
from latentd.service.runtime import Runtime

CELLS = [(16, 1), (64, 1), (16, 16)]
"""Clients, samples per request."""

Pair = dict[str, dict[str, float]]
"""Two slices of time, `on` and `off`: metric → value."""


class RequestCounter:
    """Counts the requests that an app has answered."""

    def __init__(self) -> None:
        self.count = 0

    def around(self, app: Gateway) -> Any:
        """Return `app` with the counter around it."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)
            self.count += 1

        return counted


@contextmanager
def telemetry_off(runtime: Runtime) -> Iterator[None]:
    """Switch the metrics and the log of the service off until the block ends."""
    with (
        mock.patch.object(RequestMiddleware, "_report"),
        mock.patch.object(runtime.engine, "_observer", None),
    ):
        yield


def measure_slice(counter: RequestCounter, seconds: float) -> dict[str, float]:
    """Return the requests per second, and the microseconds of processor time per request, of the next `seconds`."""
    begun, used, count = time.perf_counter(), time.process_time(), counter.count
    time.sleep(seconds)
    requests = counter.count - count
    return {
        "requests_per_second": requests / (time.perf_counter() - begun),
        "processor_us": (time.process_time() - used) / max(1, requests) * 1e6,
    }


def measure(
    server: processes.Server, runtime: Runtime, counter: RequestCounter, load: dict[str, int], options: Namespace
) -> list[Pair]:
    """Return pairs of slices, on and off. The order alternates from pair to pair."""
    pairs: list[Pair] = []
    length = options.seconds + 2 * options.warm_up
    running = processes.start_load(server, **load, seconds=length, warm_up=0)
    while not counter.count:
        time.sleep(0.1)
    time.sleep(options.warm_up)
    ends = time.monotonic() + options.seconds
    while time.monotonic() < ends:
        pair: Pair = {}
        for name in ("on", "off") if len(pairs) % 2 else ("off", "on"):
            with nullcontext() if name == "on" else telemetry_off(runtime):
                pair[name] = measure_slice(counter, options.slice)
        pairs.append(pair)
    running.communicate()
    counter.count = 0
    return pairs


def main() -> None:
    """Run all cells and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="per cell")
    parser.set_defaults(cells=CELLS, slice=0.5, warm_up=3.0)
    options = report.parse(parser, seconds=2.0, cells=[(4, 1)], slice=0.2, warm_up=0.1)
    facts = report.machine()
    cells: dict[str, list[Pair]] = {}
    counter = RequestCounter()
    with (
        serving_here(counter.around, as_json) as (server, runtime),
        tempfile.TemporaryFile(buffering=0) as log,
        mock.patch.object(access_log, "write", lambda line: log.write(line + b"\n")),
    ):
        for clients, samples in options.cells:
            load = {"clients": clients, "samples": samples}
            cells[f"{clients} × {samples}"] = measure(server, runtime, counter, load, options)
    rows = [
        [cell, metric.replace("_", " "), *_compared(pairs, metric)]
        for cell, pairs in cells.items()
        for metric in pairs[0]["on"]
    ]
    head = ["clients × samples", "metric", "on", "off", "on / off of neighbors: median", "its standard error"]
    report.write(options.results, "telemetry", {"machine": facts, "pairs": cells}, report.markdown(head, rows))


def _compared(pairs: list[Pair], metric: str) -> list[Any]:
    """Return both medians, the median ratio and its standard error."""
    ratios = [pair["on"][metric] / pair["off"][metric] for pair in pairs if pair["off"][metric]]
    low, middle, high = statistics.quantiles(ratios, n=4)
    error = 1.2533 * (high - low) / 1.349 / len(ratios) ** 0.5  # of a median of normally distributed ratios
    medians = [statistics.median(pair[name][metric] for pair in pairs) for name in ("on", "off")]
    return [*medians, f"{middle:.3f}", f"{error:.3f}"]


if __name__ == "__main__":
    main()
