"""Ten minutes of mixed traffic on one server: whether every answer is right, and whether memory grows.

`python -m benchmarks.soak`. Ordinary clients use all endpoints. Other clients leave before their answers, read slowly
and send invalid requests, and the file of a model is replaced every few seconds. At the end the server gets SIGTERM
while it has requests. Every request that was sent completely before that must be answered with the right status and, if
version and seed are known, with the same bytes as before the traffic began.
"""

import asyncio
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import uvloop

from benchmarks import processes, report
from benchmarks.abusers import Target
from benchmarks.processes import Server
from benchmarks.soak_clients import CONDITIONAL, POINTS, SWAPPED, Behavior, Clients, Tally
from benchmarks.stability import variant
from latentd.models.file_names import SHIPPED

_SWAP_SECONDS = 5.0
_BURST = 8
"""Number of large requests that are sent just before the end."""
_END_SECONDS = 60.0
_WARM_UP = 0.1
"""A fraction of the time. After this warm-up, the median memory of as long a period is compared with the last one."""
_CLIENTS: list[tuple[Behavior, int]] = [
    (Clients.ordinary, 8),
    (Clients.slow_reader, 2),
    (Clients.leaver, 2),
    (Clients.invalid, 1),
]


class ModelFolder:
    """A folder of models. The file of one model is replaced again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "models"
        self.folder.mkdir()
        for name in (CONDITIONAL, POINTS):
            shutil.copy(SHIPPED / f"{name}.safetensors", self.folder)
        self.versions = [variant(folder / "variants", index).version for index in range(2)]
        self._files = [folder / "variants" / str(index) / f"{SWAPPED}.safetensors" for index in range(2)]
        self.swaps = 0
        self.put()

    def put(self) -> None:
        """Write the file of the next version."""
        shutil.copy(self._files[self.swaps % 2], self.folder / "incoming")
        (self.folder / "incoming").rename(self.folder / f"{SWAPPED}.safetensors")
        self.swaps += 1

    async def swap(self, server: Server) -> None:
        """Write the file of the other version and wait until it is served."""
        self.put()
        wanted = self.versions[(self.swaps - 1) % 2]
        while (await asyncio.to_thread(server.get, f"/models/{SWAPPED}"))["version"] != wanted:  # noqa: ASYNC110  # HTTP
            await asyncio.sleep(0.1)


async def soak(server: Server, models: ModelFolder, seconds: float, known_seeds: int) -> dict[str, Any]:
    """Run the traffic, stop the server, and return what happened."""
    address = urlsplit(server.url)
    target = Target(address.hostname or "", address.port or 80, "")
    clients = Clients(target, random.Random(0), known_seeds)  # noqa: S311  # no secret
    await clients.record_references()
    await models.swap(server)
    await clients.record_references()
    began = time.monotonic()
    memory: list[tuple[float, float]] = []
    background = [
        asyncio.ensure_future(_swap_repeatedly(models, server, min(_SWAP_SECONDS, seconds / 4))),
        asyncio.ensure_future(_sample_memory(server, memory, min(1.0, _WARM_UP * seconds / 4))),
    ]
    traffic = [asyncio.ensure_future(clients.repeat(behavior)) for behavior, size in _CLIENTS for _ in range(size)]
    failed, _ = await asyncio.wait([*background, *traffic], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in failed:
        task.result()  # a task that ends before the timeout has raised an exception
    for task in background:
        task.cancel()
    traffic += [asyncio.ensure_future(clients.run(Clients.large)) for _ in range(_BURST)]
    await asyncio.sleep(0.05)
    clients.told_to_stop = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    exit_status = await asyncio.to_thread(psutil.Process(server.pid).wait, _END_SECONDS)
    ended = time.monotonic()
    done, waiting = await asyncio.wait(traffic, timeout=_END_SECONDS)
    for task in done:
        task.result()
    return {
        "seconds": clients.told_to_stop - began,
        "swaps": models.swaps - 2,
        "tally": _counts(clients.tally),
        "kinds": _kinds(clients.tally),
        "minutes": _minutes(clients.tally.latencies, memory, began),
        "memory": _growth([(at - began, size) for at, size in memory], seconds),
        "stop": {
            "seconds": ended - clients.told_to_stop,
            "exit_status": exit_status,
            "clients_left_waiting": len(waiting),
        },
    }


async def _swap_repeatedly(models: ModelFolder, server: Server, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        await models.swap(server)


async def _sample_memory(server: Server, memory: list[tuple[float, float]], interval: float) -> None:
    while True:
        memory.append((time.monotonic(), server.resident_bytes() / 1e6))
        await asyncio.sleep(interval)


def _counts(tally: Tally) -> dict[str, dict[str, int]]:
    return {name: dict(found) for name, found in vars(tally).items() if name != "latencies"}


def _kinds(tally: Tally) -> dict[str, dict[str, float]]:
    """Return the latency percentiles of ordinary requests, by kind."""
    kinds = sorted({kind for kind, _, _ in tally.latencies})
    return {kind: _percentiles([took for this, _, took in tally.latencies if this == kind]) for kind in kinds}


def _percentiles(seconds: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(seconds or [np.nan], [50, 99]) * 1e3
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def _minutes(latencies: list[tuple[str, float, float]], memory: list[tuple[float, float]], began: float) -> list[Any]:
    """Return for each minute: the answers to ordinary requests, their latency percentiles, and memory."""
    found = []
    for minute in range(int((memory[-1][0] - began) // 60) + 1):
        taken = [took for _, at, took in latencies if (at - began) // 60 == minute]
        sizes = [size for at, size in memory if (at - began) // 60 == minute]
        found.append({"answers": len(taken), **_percentiles(taken), "resident_mb": statistics.median(sizes)})
    return found


def _growth(memory: list[tuple[float, float]], seconds: float) -> dict[str, float]:
    """Return how memory grew from the end of the warm-up to the end."""
    span = _WARM_UP * seconds
    before = statistics.median(size for at, size in memory if span <= at < 2 * span)
    after = statistics.median(size for at, size in memory if at >= seconds - span)
    most = max(size for _, size in memory)
    return {
        "warm_up_seconds": span,
        "before_mb": before,
        "after_mb": after,
        "growth": after / before - 1,
        "most_mb": most,
    }


def table_of(found: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    tally = found["tally"]
    kinds = sorted(tally["sent"])
    columns = ("sent", "expected", "abandoned", "compared", "wrong")
    rows = [
        [kind, *(tally[name].get(kind, 0) for name in columns), *found["kinds"].get(kind, {"": "", " ": ""}).values()]
        for kind in kinds
    ]
    rows.append(["all", *(sum(tally[name].values()) for name in columns), "", ""])
    head = [
        "request",
        "sent",
        "answered as expected",
        "abandoned by the client",
        "compared",
        "wrong",
        "p50 ms",
        "p99 ms",
    ]
    table = report.markdown(head, rows)
    for title, name in (
        ("Answered with another status", "unexpected"),
        ("Lost", "lost"),
        ("Sent after SIGTERM, and refused", "too_late"),
    ):
        listed = ", ".join(f"{what} × {number}" for what, number in sorted(tally[name].items())) or "none"
        table += f"\n\n{title}: {listed}."
    memory, stop = found["memory"], found["stop"]
    table += (
        f"\n\n{found['swaps']} swaps, answers of {len(tally['versions'])} versions compared. Memory after "
        f"{memory['warm_up_seconds']:.0f} s: {memory['before_mb']:.0f} MB, at the end {memory['after_mb']:.0f} MB "
        f"({memory['growth']:+.1%}), at most {memory['most_mb']:.0f} MB.\n\nAfter SIGTERM it ended within "
        f"{stop['seconds']:.1f} s with {stop['exit_status']}; waiting clients: {stop['clients_left_waiting']}.\n\n"
    )
    minutes = [[index + 1, *each.values()] for index, each in enumerate(found["minutes"])]
    table += report.markdown(["minute", "ordinary answers", "p50 ms", "p99 ms", "resident MB"], minutes)
    return (
        table
        + f"\n\nLoad of the machine, before and after: {found['machine']['load_before'][0]}, {found['load_after']}."
    )


def main() -> None:
    """Run and write the results. Exit with an error if answers were lost or wrong, or if the server failed."""
    parser = report.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.set_defaults(known_seeds=16)
    options = report.parse(parser, minutes=0.05, known_seeds=1)
    facts = report.machine()
    with tempfile.TemporaryDirectory(prefix="latentd-soak-") as folder:
        models = ModelFolder(Path(folder))
        with processes.latentd(LATENTD_MODELS=str(models.folder)) as server:
            found = uvloop.run(soak(server, models, 60 * options.minutes, options.known_seeds))
    found = {"machine": facts, "load_after": round(os.getloadavg()[0], 2), **found}
    report.write(options.results, "soak", found, table_of(found))
    tally = found["tally"]
    if tally["lost"] or tally["wrong"] or found["stop"]["exit_status"]:
        sys.exit("answers were lost or wrong, or the server did not end as it should")


if __name__ == "__main__":
    main()
