"""What one executor takes and when it is full: for the resource requests and the autoscaler's thresholds in deploy/.

`python -m benchmarks.footprint`. Memory is the resident memory of the server and its children, of which pages that they
share count once for each.
"""

import argparse
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import processes, report
from benchmarks.processes import Server

CLOSED = [(1, 1), (64, 1), (16, 16), (16, 256)]
"""Clients, samples a request."""
OPEN = [0.5, 0.75, 0.9, 1.1]
"""Of the requests a second that 16 clients of 16 samples got answered: the rates of requests of 16 samples."""
_LOOK_SECONDS = 0.5
_WARM_UP_SECONDS = 3.0


@dataclass
class Seen:
    """What a server was like, at each look."""

    resident: list[int] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)


def start(server: Server, begun: float) -> dict[str, float]:
    """What it takes until /readyz, and at rest."""
    ready = time.monotonic() - begun
    processor = processor_seconds(server)
    time.sleep(2 * _WARM_UP_SECONDS)
    return {"seconds": ready, "processor_seconds": processor, "resident_mb": server.resident_bytes() / 1e6}


def measure(server: Server, **load: Any) -> dict[str, float]:
    """One load's figures; `load` as in processes.load."""
    running = processes.start_load(server, warm_up=_WARM_UP_SECONDS, **load)
    time.sleep(_WARM_UP_SECONDS)
    before, used, begun = numbers(server), processor_seconds(server), time.monotonic()
    with looking(server) as seen:
        time.sleep(load["seconds"])
    seconds = time.monotonic() - begun
    used = processor_seconds(server) - used
    after = numbers(server)
    found = json.loads(running.communicate()[0])
    waits = after["latentd_queue_wait_seconds_count"] - before["latentd_queue_wait_seconds_count"]
    waited = after["latentd_queue_wait_seconds_sum"] - before["latentd_queue_wait_seconds_sum"]
    return {
        "requests_per_second": found["requests_per_second"],
        "images_per_second": found["images_per_second"],
        "failed": found["failed"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "cores": used / seconds,
        "queued_samples": sum(seen.queued) / len(seen.queued),
        "queue_wait_ms": waited / max(1, waits) * 1e3,
        "resident_mb": max(seen.resident) / 1e6,
    }


def numbers(server: Server) -> dict[str, float]:
    """Of /metrics, those without labels."""
    with urlopen(f"{server.url}/metrics", timeout=60) as answer:  # noqa: S310  # our own server
        families = text_string_to_metric_families(answer.read().decode())
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def processor_seconds(server: Server) -> float:
    """Used by the server and its children so far."""
    process = psutil.Process(server.pid)
    times = [each.cpu_times() for each in [process, *process.children(recursive=True)]]
    return float(sum(each.user + each.system for each in times))


@contextmanager
def looking(server: Server) -> Iterator[Seen]:
    """Look at the server again and again until the block ends."""
    seen, ended = Seen(), threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_SECONDS):
            seen.resident.append(server.resident_bytes())
            seen.queued.append(numbers(server)["latentd_queued_samples"])

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield seen
    finally:
        ended.set()
        looker.join()


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="each load")
    seconds = parser.parse_args().seconds
    machine = report.machine()
    begun = time.monotonic()
    loads: dict[str, dict[str, float]] = {}
    with processes.latentd() as server:
        started = start(server, begun)
        for clients, samples in CLOSED:
            loads[f"{clients} × {samples}"] = measure(server, clients=clients, samples=samples, seconds=seconds)
        full = loads["16 × 16"]["requests_per_second"]
        for share in OPEN:
            name = f"requests of 16, {share:g} of the rate of 16 × 16"
            loads[name] = measure(server, rate=share * full, samples=16, seconds=seconds)
    rest = report.markdown(["start", "found"], [[name, value] for name, value in started.items()])
    head = ["clients × samples", *loads["16 × 16"]]
    table = report.markdown(head, [[name, *found.values()] for name, found in loads.items()])
    report.write("footprint", {"machine": machine, "start": started, "loads": loads}, f"{rest}\n\n{table}")


if __name__ == "__main__":
    main()
