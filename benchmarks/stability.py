"""Stability: floods, small requests beside large ones, model swaps under load, and memory over many requests.

`python -m benchmarks.stability` runs all parts, `--only flood fairness` only these. Each part writes its own results.
"""

import base64
import io
import shutil
import statistics
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import processes, report
from benchmarks.processes import Server
from benchmarks.rivals.work import MODEL
from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.file_names import SHIPPED
from latentd.models.hardware import core_count
from latentd.models.latents import seeds_to_rows
from latentd.models.outputs.base import Samples
from latentd.models.sampling import generate_rows

_FLOODS = ((64, 10.0), (1, 2.0))
"""Samples per request, and the rate as a multiple of what the server can handle."""
_CLIENTS = (16, 64, 256)
_TALLY_LOCK = threading.Lock()


def flood(options: Namespace) -> dict[str, Any]:
    """Measure goodput and latency of an open loop beyond capacity, compared with those at the peak.

    The peak is the number of closed-loop clients with the most images per second.
    """
    found: dict[str, Any] = {}
    span = {"seconds": options.seconds, "warm_up": options.warm_up}
    for samples, times in options.floods:
        with processes.latentd() as server:
            closed = {each: processes.load(server, clients=each, samples=samples, **span) for each in options.clients}
            peak_clients = max(closed, key=lambda each: closed[each]["images_per_second"])
            peak = closed[peak_clients]
            rate = peak["requests_per_second"] * times
            over = processes.load(server, rate=rate, samples=samples, **span)
            after = processes.load(server, clients=64, samples=samples, **span)
        found[f"{samples} samples at {times:g}×"] = {
            "closed_loops": closed,
            "peak_clients": peak_clients,
            "flood": over,
            "after": after,
            "goodput_of_peak": report.ratio(over["images_per_second"], peak["images_per_second"]),
            "p99_of_peak": over["p99_ms"] / peak["p99_ms"],
        }
    return found


def fairness(options: Namespace) -> dict[str, Any]:
    """Measure the p99 of one-sample requests on an idle server, and beside clients that request 256 samples each."""
    found: dict[str, Any] = {}
    with processes.latentd() as server:
        sizes = server.get(f"/models/{MODEL}")["determinism"]["sizes"]
        found["idle"] = processes.load(server, clients=1, samples=1, seconds=options.seconds, warm_up=options.warm_up)
        for clients in (1, 4):
            longer = {"seconds": options.seconds + options.warm_up, "warm_up": options.warm_up}
            beside = processes.start_load(server, clients=clients, samples=256, **longer)
            time.sleep(options.warm_up / 2)
            found[f"beside {clients}"] = processes.load(
                server, clients=1, samples=1, seconds=options.seconds * 0.9, warm_up=options.warm_up
            )
            beside.communicate()
    found["forward_ms"] = forward_milliseconds(max(sizes), options.seconds)
    for clients in (1, 4):
        waited = found[f"beside {clients}"]["p99_ms"] - found["idle"]["p99_ms"]
        found[f"beside {clients}"]["forward_passes_over_idle"] = waited / found["forward_ms"]
    return found


def forward_milliseconds(size: int, seconds: float) -> float:
    """Return the time of a pass of `size` with its encoding, while all other cores are busy too, as under load."""
    cores = core_count()
    with ThreadPoolExecutor(cores) as pool:
        loops = [
            pool.submit(processes.json_of, "benchmarks.rivals.serving_loop", 1, size, seconds) for _ in range(cores)
        ]
        rates: list[float] = [loop.result()["images_per_second"] for loop in loops]
    return size / statistics.mean(rates) * 1e3


def swaps(options: Namespace) -> dict[str, Any]:
    """Replace the file of a model again and again under load. Each answer must be complete and of one version."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{MODEL}.safetensors"
        originals = [variant(Path(folder) / "variants", index) for index in range(2)]
        expected = {each.version: _samples_of(each) for each in originals}
        shutil.copy(Path(folder) / "variants" / "0" / file.name, file)
        with processes.latentd(LATENTD_MODELS=folder) as server:
            _send_requests(server, options)  # allocates what is allocated only once
            before = server.resident_bytes()
            tally = {"right": 0, "failed": 0, "wrong": 0}
            stop = threading.Event()
            clients = [threading.Thread(target=_check, args=(server, expected, tally, stop)) for _ in range(8)]
            for client in clients:
                client.start()
            waits, points = [], []
            for turn in range(1, options.swaps + 1):
                waits.append(_swap(server, folder, file, originals[turn % 2]))
                if turn % 10 == 0:
                    points.append(server.resident_bytes() / 1e6)
            stop.set()
            for client in clients:
                client.join()
            time.sleep(2)
            after = server.resident_bytes()
    return {
        "swaps": options.swaps,
        **tally,
        "seconds_until_served": {"median": statistics.median(waits), "most": max(waits)},
        "resident_mb": {"before": before / 1e6, "after": after / 1e6, "growth": after / before - 1, "every_10": points},
    }


def endurance(options: Namespace) -> dict[str, Any]:
    """Measure resident memory over many requests of mixed sizes."""
    points: list[dict[str, float]] = []
    done = failed = 0
    with processes.latentd() as server:
        for clients, samples in ((64, 1), (16, 16)):
            processes.load(server, clients=clients, samples=samples, seconds=options.seconds, warm_up=options.warm_up)
        while done < options.requests:
            points.append({"requests": done, "resident_mb": server.resident_bytes() / 1e6})
            for clients, samples, lasting in ((64, 1, options.seconds), (16, 16, options.seconds / 5)):
                found = processes.load(server, clients=clients, samples=samples, seconds=lasting, warm_up=0.01)
                done += found["requests"]
                failed += found["failed"]
        points.append({"requests": done, "resident_mb": server.resident_bytes() / 1e6})
    growth = points[-1]["resident_mb"] / points[0]["resident_mb"] - 1
    return {"requests": done, "failed": failed, "growth": growth, "points": points}


PARTS: dict[str, Callable[[Namespace], dict[str, Any]]] = {
    "flood": flood,
    "fairness": fairness,
    "swaps": swaps,
    "endurance": endurance,
}


def rows_of(part: str, found: dict[str, Any]) -> list[list[Any]]:
    """Return the rows of a part's table."""
    if part == "flood":
        return [
            line
            for name, each in found.items()
            for line in (
                [f"{name}: clients at the peak", each["peak_clients"]],
                [f"{name}: goodput, of that at peak", each["goodput_of_peak"]],
                [f"{name}: p99 of accepted requests, of that at peak", each["p99_of_peak"]],
                [f"{name}: share refused with 429", _refused(each["flood"])],
                [f"{name}: failed otherwise", each["flood"]["failed"] - each["flood"]["failures"].get("429", 0)],
            )
        ]
    if part == "fairness":
        beside = [(name, found[name]) for name in found if name.startswith("beside")]
        return [
            ["one sample, idle: p99 ms", found["idle"]["p99_ms"]],
            ["largest pass, with its encoding: ms", found["forward_ms"]],
            *([f"one sample {name} × 256: p99 ms", each["p99_ms"]] for name, each in beside),
            *(
                [f"one sample {name} × 256: passes over idle", each["forward_passes_over_idle"]]
                for name, each in beside
            ),
        ]
    if part == "swaps":
        return [
            *([name, found[name]] for name in ("swaps", "right", "failed", "wrong")),
            ["seconds until served, median", found["seconds_until_served"]["median"]],
            ["seconds until served, most", found["seconds_until_served"]["most"]],
            ["memory growth", found["resident_mb"]["growth"]],
        ]
    return [["requests", found["requests"]], ["failed", found["failed"]], ["memory growth", found["growth"]]]


def main() -> None:
    """Run the parts, and write the results of each."""
    parser = report.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="each load")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.set_defaults(clients=_CLIENTS, warm_up=2.0, floods=_FLOODS, swaps=100, requests=100_000)
    options = report.parse(parser, seconds=1.0, clients=(2,), warm_up=0.1, floods=((1, 2.0),), swaps=2, requests=20)
    for part in options.only:
        machine = report.machine()
        found = PARTS[part](options)
        table = report.markdown(["what", "found"], rows_of(part, found))
        report.write(options.results, part, {"machine": machine, **found}, table)


def _refused(found: dict[str, Any]) -> float:
    return float(found["failures"].get("429", 0) / max(1, found["requests"] + found["failed"]))


def variant(folder: Path, index: int) -> Checkpoint:
    """Write the shipped model with slightly different weights for each index, and return it."""
    shipped = Checkpoint.read(SHIPPED / f"{MODEL}.safetensors")
    tensors = {
        name: tensor * (1 + index / 100) if tensor.is_floating_point() else tensor
        for name, tensor in shipped.tensors.items()
    }
    return write_checkpoint(folder / str(index) / f"{MODEL}.safetensors", shipped.card, tensors)


def _samples_of(checkpoint: Checkpoint) -> Samples:
    torch.set_num_threads(1)  # as in the server
    return generate_rows(checkpoint.build(), seeds_to_rows(checkpoint.card.spec, range(4)))


def _check(server: Server, expected: dict[str, Samples], tally: dict[str, int], stop: threading.Event) -> None:
    """Send requests until `stop`, and count answers that are right, wrong or missing."""
    while not stop.is_set():
        try:
            answer = server.generate(num_samples=4, seed=0, format="npy")
        except OSError:
            found = "failed"
        else:
            found = "right" if _is_right(answer, expected) else "wrong"
        with _TALLY_LOCK:
            tally[found] += 1


def _is_right(answer: dict[str, Any], expected: dict[str, Samples]) -> bool:
    files = [io.BytesIO(base64.b64decode(sample["data"])) for sample in answer["samples"]]
    samples = np.stack([np.load(file, allow_pickle=False) for file in files])
    return answer["version"] in expected and np.array_equal(samples, expected[answer["version"]])


def _swap(server: Server, folder: str, file: Path, checkpoint: Checkpoint) -> float:
    """Replace `file` with `checkpoint`. Return the seconds until it is served."""
    started = time.monotonic()
    write_checkpoint(file, checkpoint.card, checkpoint.tensors)
    while server.get(f"/models/{MODEL}")["version"] != checkpoint.version:
        time.sleep(0.02)
    return time.monotonic() - started


def _send_requests(server: Server, options: Namespace) -> None:
    processes.load(server, clients=8, samples=4, seconds=options.seconds, warm_up=options.warm_up)


if __name__ == "__main__":
    main()
