"""What one server needs, and when it is full: for the resource requests and the autoscaler's thresholds in deploy/.

`python -m benchmarks.footprint`. Memory is the resident memory of the server and its children. A page that several
of them share counts once for each.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from benchmarks import processes, report
from benchmarks.processes import Server

CLOSED = [(1, 1), (64, 1), (16, 16), (16, 256)]
"""Clients, samples per request."""
OPEN = [0.5, 0.75, 0.9, 1.1]
"""Rates of requests for 16 samples, as fractions of the rate that 16 clients with 16 samples reach."""
_INTERVAL_SECONDS = 0.5


@dataclass
class Observed:
    """What was read from a server at regular times."""

    resident: list[int] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)


def start_up(server: Server, begun: float, rest_seconds: float) -> dict[str, float]:
    """Return the time that a server needs until /readyz, and its memory after a rest."""
    ready = time.monotonic() - begun
    processor = server.processor_seconds()
    time.sleep(rest_seconds)
    return {"seconds": ready, "processor_seconds": processor, "resident_mb": server.resident_bytes() / 1e6}


def measure(server: Server, seconds: float, warm_up: float, **load: Any) -> dict[str, float]:
    """Return the figures of one load; `load` as in processes.load."""
    running = processes.start_load(server, warm_up=warm_up, seconds=seconds, **load)
    time.sleep(warm_up)
    before, used, begun = metrics(server), server.processor_seconds(), time.monotonic()
    with observing(server, min(_INTERVAL_SECONDS, seconds / 4)) as observed:
        time.sleep(seconds)
    elapsed = time.monotonic() - begun
    used = server.processor_seconds() - used
    after = metrics(server)
    found = json.loads(running.communicate()[0])
    waits = after["latentd_queue_wait_seconds_count"] - before["latentd_queue_wait_seconds_count"]
    waited = after["latentd_queue_wait_seconds_sum"] - before["latentd_queue_wait_seconds_sum"]
    return {
        "requests_per_second": found["requests_per_second"],
        "images_per_second": found["images_per_second"],
        "failed": found["failed"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "cores": used / elapsed,
        "queued_samples": sum(observed.queued) / len(observed.queued),
        "queue_wait_ms": waited / max(1, waits) * 1e3,
        "resident_mb": max(observed.resident) / 1e6,
    }


def metrics(server: Server) -> dict[str, float]:
    """Return the values of /metrics that have no labels."""
    with urlopen(f"{server.url}/metrics", timeout=60) as answer:  # noqa: S310  # our own server
        families = text_string_to_metric_families(answer.read().decode())
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


@contextmanager
def observing(server: Server, interval: float) -> Iterator[Observed]:
    """Read the server's memory and queue every `interval` seconds until the block ends, at least once."""
    observed, ended = Observed(), threading.Event()

    def observe() -> None:
        while not ended.wait(interval) or not observed.queued:
            observed.resident.append(server.resident_bytes())
            observed.queued.append(metrics(server)["latentd_queued_samples"])

    observer = threading.Thread(target=observe)
    observer.start()
    try:
        yield observed
    finally:
        ended.set()
        observer.join()


def main() -> None:
    """Run all loads and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="per load")
    parser.set_defaults(warm_up=3.0, closed=CLOSED, open=OPEN)
    options = report.parse(parser, seconds=1.0, warm_up=0.1, closed=[(16, 16)], open=[0.5])
    facts = report.machine()
    begun = time.monotonic()
    loads: dict[str, dict[str, float]] = {}
    span = {"seconds": options.seconds, "warm_up": options.warm_up}
    with processes.latentd() as server:
        started = start_up(server, begun, 2 * options.warm_up)
        for clients, samples in options.closed:
            loads[f"{clients} × {samples}"] = measure(server, **span, clients=clients, samples=samples)
        full = loads["16 × 16"]["requests_per_second"]
        for share in options.open:
            name = f"requests of 16, {share:g} of the rate of 16 × 16"
            loads[name] = measure(server, **span, rate=share * full, samples=16)
    start_table = report.markdown(["start", "found"], [[name, value] for name, value in started.items()])
    head = ["clients × samples", *loads["16 × 16"]]
    table = report.markdown(head, [[name, *found.values()] for name, found in loads.items()])
    results = {"machine": facts, "start": started, "loads": loads}
    report.write(options.results, "footprint", results, f"{start_table}\n\n{table}")


if __name__ == "__main__":
    main()
