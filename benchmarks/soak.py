"""Ten minutes of mixed traffic on one server: whether every request is answered, right, and at what memory.

`python -m benchmarks.soak`. Ordinary clients use all endpoints; beside them others leave before their answers, read
slowly and send nonsense, and the file of a model is replaced every few seconds. In the end the server is told to stop
while requests are under way. What was sent whole before that has to be answered, with the status that is right and,
where version and seed are known, with the same bytes as before the traffic began.
"""

import argparse
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
from benchmarks.abusers import Site
from benchmarks.processes import Server
from benchmarks.soakers import CONDITIONAL, POINTS, SWAPPED, Act, Crowd, Tally
from benchmarks.stability import variant
from latentd.service.settings import SHIPPED

_SWAP_SECONDS = 5.0
_BURST = 8
"""Large requests that are sent just before the end."""
_END_SECONDS = 60.0
_WARM_UP = 0.1
"""Of the time: what is allocated once, is. Memory is compared from there on, by the median of as long a time."""
_CROWDS: list[tuple[Act, int]] = [
    (Crowd.ordinary, 8),
    (Crowd.slow_reader, 2),
    (Crowd.leaver, 2),
    (Crowd.bad, 1),
]


class Catalog:
    """A folder of models, one of which is replaced again and again."""

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
        """The version whose turn it is."""
        shutil.copy(self._files[self.swaps % 2], self.folder / "incoming")
        (self.folder / "incoming").rename(self.folder / f"{SWAPPED}.safetensors")
        self.swaps += 1

    async def swap(self, server: Server) -> None:
        """Puts the other version there, and waits until it is served."""
        self.put()
        wanted = self.versions[(self.swaps - 1) % 2]
        while (await asyncio.to_thread(server.get, f"/models/{SWAPPED}"))["version"] != wanted:  # noqa: ASYNC110  # HTTP
            await asyncio.sleep(0.1)


async def soak(server: Server, catalog: Catalog, seconds: float) -> dict[str, Any]:
    """The traffic, the end, and what became of all that."""
    address = urlsplit(server.url)
    crowd = Crowd(Site(address.hostname or "", address.port or 80, ""), random.Random(0))  # noqa: S311  # no secret
    await crowd.learn()
    await catalog.swap(server)
    await crowd.learn()
    began = time.monotonic()
    memory: list[tuple[float, float]] = []
    watching = [asyncio.ensure_future(_swap_again(catalog, server)), asyncio.ensure_future(_watch(server, memory))]
    clients = [asyncio.ensure_future(crowd.keep(act)) for act, size in _CROWDS for _ in range(size)]
    over, _ = await asyncio.wait([*watching, *clients], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for each in over:
        each.result()  # none ends by itself, but with an exception
    for each in watching:
        each.cancel()
    clients += [asyncio.ensure_future(crowd.once(Crowd.large)) for _ in range(_BURST)]
    await asyncio.sleep(0.05)
    crowd.told_to_stop = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    ended_with = await asyncio.to_thread(psutil.Process(server.pid).wait, _END_SECONDS)
    ended = time.monotonic()
    over, waiting = await asyncio.wait(clients, timeout=_END_SECONDS)
    for each in over:
        each.result()
    return {
        "seconds": crowd.told_to_stop - began,
        "swaps": catalog.swaps - 2,
        "tally": _named(crowd.tally),
        "kinds": _kinds(crowd.tally),
        "minutes": _minutes(crowd.tally.latencies, memory, began),
        "memory": _growth([(at - began, size) for at, size in memory], seconds),
        "stop": {
            "seconds": ended - crowd.told_to_stop,
            "exit_status": ended_with,
            "clients_left_waiting": len(waiting),
        },
    }


async def _swap_again(catalog: Catalog, server: Server) -> None:
    while True:
        await asyncio.sleep(_SWAP_SECONDS)
        await catalog.swap(server)


async def _watch(server: Server, memory: list[tuple[float, float]]) -> None:
    while True:
        memory.append((time.monotonic(), server.resident_bytes() / 1e6))
        await asyncio.sleep(1)


def _named(tally: Tally) -> dict[str, dict[str, int]]:
    return {name: dict(found) for name, found in vars(tally).items() if name != "latencies"}


def _kinds(tally: Tally) -> dict[str, dict[str, float]]:
    """Percentiles of ordinary requests."""
    kinds = sorted({kind for kind, _, _ in tally.latencies})
    return {kind: _percentiles([took for this, _, took in tally.latencies if this == kind]) for kind in kinds}


def _percentiles(seconds: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(seconds or [np.nan], [50, 99]) * 1e3
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def _minutes(latencies: list[tuple[str, float, float]], memory: list[tuple[float, float]], began: float) -> list[Any]:
    """Of every minute: answers to ordinary requests, their percentiles, and memory."""
    found = []
    for minute in range(int((memory[-1][0] - began) // 60) + 1):
        taken = [took for _, at, took in latencies if (at - began) // 60 == minute]
        sizes = [size for at, size in memory if (at - began) // 60 == minute]
        found.append({"answers": len(taken), **_percentiles(taken), "resident_mb": statistics.median(sizes)})
    return found


def _growth(memory: list[tuple[float, float]], seconds: float) -> dict[str, float]:
    """From after the warm-up to the end."""
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
    """What is to be read."""
    tally = found["tally"]
    kinds = sorted(tally["sent"])
    columns = ("sent", "expected", "left", "compared", "wrong")
    rows = [
        [kind, *(tally[name].get(kind, 0) for name in columns), *found["kinds"].get(kind, {"": "", " ": ""}).values()]
        for kind in kinds
    ]
    rows.append(["all", *(sum(tally[name].values()) for name in columns), "", ""])
    head = ["request", "sent", "answered as expected", "left by the client", "compared", "wrong", "p50 ms", "p99 ms"]
    table = report.markdown(head, rows)
    for title, name in (
        ("Answered with another status", "unexpected"),
        ("Lost", "lost"),
        ("Sent after SIGTERM, and not taken", "too_late"),
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
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    machine = report.machine()
    with tempfile.TemporaryDirectory(prefix="latentd-soak-") as folder:
        catalog = Catalog(Path(folder))
        with processes.latentd(LATENTD_MODELS=str(catalog.folder)) as server:
            found = uvloop.run(soak(server, catalog, 60 * options.minutes))
    found = {"machine": machine, "load_after": round(os.getloadavg()[0], 2), **found}
    report.write("soak", found, table_of(found))
    tally = found["tally"]
    if tally["lost"] or tally["wrong"] or found["stop"]["exit_status"]:
        sys.exit("answers were lost or wrong, or the server did not end as it should")


if __name__ == "__main__":
    main()
