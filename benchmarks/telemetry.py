"""What counting and the log cost: one server under a steady load, which does both and neither in turn.

`python -m benchmarks.telemetry`. The server is in this process and the load generator in another. Every slice of time
is compared with its neighbour, so that what else the machine does hits both; and by the processor time of a request,
which other work moves less than requests a second.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from benchmarks import processes, report
from benchmarks.breakdown import serving_here
from latentd.service.gateway import Gateway
from latentd.service.observability import access
from latentd.service.observability.formatter import as_json
from latentd.service.observability.middleware import RequestMiddleware
from latentd.service.runtime import Runtime

CELLS = [(16, 1), (64, 1), (16, 16)]
"""Clients, samples a request."""
_SLICE_SECONDS = 0.5


class Answered:
    """Counts requests by an app of its own around the Gateway, whether the service counts them or not."""

    def __init__(self) -> None:
        self.count = 0

    def around(self, app: Gateway) -> Any:
        """Return `app` with its answers counted."""

        async def numbered(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)
            self.count += 1

        return numbered


@contextmanager
def nothing_counted(runtime: Runtime) -> Iterator[None]:
    """Serve without telemetry and without an access log."""
    with (
        mock.patch.object(RequestMiddleware, "_report"),
        mock.patch.object(runtime.engine, "_observer", None),
    ):
        yield


def slice_of(answered: Answered) -> dict[str, float]:
    """A slice of time: requests a second, and microseconds of processor time a request."""
    begun, used, count = time.perf_counter(), time.process_time(), answered.count
    time.sleep(_SLICE_SECONDS)
    requests = answered.count - count
    return {
        "requests_per_second": requests / (time.perf_counter() - begun),
        "processor_us": (time.process_time() - used) / max(1, requests) * 1e6,
    }


def measure(
    server: processes.Server, runtime: Runtime, answered: Answered, clients: int, samples: int, seconds: float
) -> list[dict[str, dict[str, float]]]:
    """Pairs of slices, counted and not, whose order alternates."""
    pairs: list[dict[str, dict[str, float]]] = []
    warm_up = 3.0
    load = processes.start_load(server, clients=clients, samples=samples, seconds=seconds + 2 * warm_up, warm_up=0)
    while not answered.count:
        time.sleep(0.1)
    time.sleep(warm_up)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        pair: dict[str, dict[str, float]] = {}
        for counts in (True, False) if len(pairs) % 2 else (False, True):
            if counts:
                pair["counted"] = slice_of(answered)
            else:
                with nothing_counted(runtime):
                    pair["not counted"] = slice_of(answered)
        pairs.append(pair)
    load.communicate()
    answered.count = 0
    return pairs


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="a cell")
    options = parser.parse_args()
    cells: dict[str, list[dict[str, dict[str, float]]]] = {}
    answered = Answered()
    with (
        serving_here(answered.around, as_json) as (server, runtime),
        tempfile.TemporaryFile(buffering=0) as log,
        mock.patch.object(access, "write", lambda line: log.write(line + b"\n")),
    ):
        for clients, samples in CELLS:
            cells[f"{clients} × {samples}"] = measure(server, runtime, answered, clients, samples, options.seconds)
    rows = [
        [cell, figure.replace("_", " "), *_compared(pairs, figure)]
        for cell, pairs in cells.items()
        for figure in pairs[0]["counted"]
    ]
    head = [
        "clients × samples",
        "figure",
        "counted",
        "not counted",
        "ratio of neighbours: median",
        "its standard error",
    ]
    results: dict[str, Any] = {"machine": report.machine(), "pairs": cells}
    report.write("telemetry", results, report.markdown(head, rows))


def _compared(pairs: list[dict[str, dict[str, float]]], figure: str) -> list[Any]:
    """Both medians, the median ratio, and how sure that is."""
    ratios = [pair["counted"][figure] / pair["not counted"][figure] for pair in pairs if pair["not counted"][figure]]
    low, middle, high = statistics.quantiles(ratios, n=4)
    error = 1.2533 * (high - low) / 1.349 / len(ratios) ** 0.5  # of a median, where ratios are spread normally
    medians = [statistics.median(pair[name][figure] for pair in pairs) for name in ("counted", "not counted")]
    return [*medians, f"{middle:.3f}", f"{error:.3f}"]


if __name__ == "__main__":
    main()
