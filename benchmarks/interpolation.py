"""How much HTTP, batching and streaming add to a film: `python -m benchmarks.interpolation`.

`/interpolate` against the same frames generated and encoded in this process as one job; the time until the first
streamed frame; and the service's memory while streams of several lengths are read.
"""

import argparse
import http.client
import json
import statistics
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch

from benchmarks import processes, report
from benchmarks.processes import Server
from benchmarks.rivals.work import MODEL
from latentd.models.checkpoint import Checkpoint
from latentd.models.hardware import core_count, keep_freed_memory
from latentd.models.interpolation import KeyframePath
from latentd.models.latents import seed_to_latent
from latentd.models.outputs.animation import AnimationOptions, encode_animation
from latentd.models.sampling import StageInput, forward_pass, generate
from latentd.service.settings import SHIPPED

_FRAMES = 240
_SEEDS = (1, 2, 3, 4)
_STREAMS = (250, 1000, 4000)
_BATCH = 64


def body(frames: int, **fields: Any) -> dict[str, Any]:
    """A request for so many frames: a loop past as many seeds."""
    steps = frames // len(_SEEDS) + 1
    return {"keyframes": [{"seed": seed} for seed in _SEEDS], "steps": steps, "loop": True, **fields}


def in_process() -> Callable[[], bytes]:
    """Generates in batches and encodes, in the better of one thread and one a core."""
    checkpoint = Checkpoint.read(SHIPPED / f"{MODEL}.safetensors")
    generator, output = checkpoint.build(), checkpoint.card.spec.output
    keyframes = np.stack([seed_to_latent(checkpoint.card.spec, seed).latent for seed in _SEEDS])
    path = KeyframePath(len(_SEEDS), _FRAMES // len(_SEEDS) + 1, loop=True)

    def film() -> bytes:
        rows = StageInput(path.interpolate(keyframes, "slerp"), None)
        parts = [forward_pass(generator, rows[i : i + _BATCH], _BATCH) for i in range(0, len(rows), _BATCH)]
        return encode_animation(
            output.frames(output.frame_data(np.concatenate(parts))), "mp4", AnimationOptions(24), "{}"
        )

    generate(generator, keyframes, [None] * len(_SEEDS))
    return film


def milliseconds(task: Callable[[], Any], rounds: int) -> float:
    """The median over `rounds`."""
    took = []
    for _ in range(rounds):
        started = time.perf_counter()
        task()
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1e3


def ask(server: Server, accept: str, fields: dict[str, Any]) -> http.client.HTTPResponse:
    """An answer whose headers are there."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)
    connection.request("POST", "/interpolate", json.dumps(fields), {"Accept": accept})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {answer.read()!r}")
    return answer


def film_over_http(server: Server) -> None:
    """A film, read whole."""
    ask(server, "video/mp4", body(_FRAMES)).read()


def first_frame(server: Server) -> None:
    """A stream, left at its first frame."""
    answer = ask(server, "text/event-stream", body(_FRAMES))
    while answer.readline() != b"event: frame\n":
        pass
    answer.readline()
    answer.close()


def stream_memory(server: Server, frames: int) -> dict[str, float]:
    """A stream read to its end: the most resident memory meanwhile."""
    answer = ask(server, "text/event-stream", body(frames))
    most, seen = server.resident_bytes(), 0
    while line := answer.readline():
        if line == b"event: frame\n":
            seen += 1
            if seen % 100 == 0:
                most = max(most, server.resident_bytes())
    return {"frames": seen, "most_mb": most / 1e6}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    keep_freed_memory()
    alone = {}
    for threads in sorted({1, core_count()}):
        torch.set_num_threads(threads)
        alone[f"{threads} threads"] = milliseconds(in_process(), rounds)
    torch.set_num_threads(1)
    with processes.latentd(LATENTD_MAX_FRAMES=str(max(_STREAMS))) as server:
        film_over_http(server)
        over_http = milliseconds(lambda: film_over_http(server), rounds)
        first = milliseconds(lambda: first_frame(server), rounds)
        one_pass = processes.load(server, clients=1, samples=16, seconds=2)["p50_ms"]
        streams = [stream_memory(server, frames) for frames in (*_STREAMS, *_STREAMS)]
    found = {
        "in_process_ms": alone,
        "over_http_ms": over_http,
        "over_http_of_in_process": over_http / min(alone.values()),
        "first_frame_ms": first,
        "generate_16_ms": one_pass,
        "streams": streams,
    }
    rows = [
        *([f"{_FRAMES} frames as MP4 in process, {name}: ms", each] for name, each in alone.items()),
        [f"{_FRAMES} frames as MP4 over HTTP: ms", over_http],
        ["… of the better in process", found["over_http_of_in_process"]],
        ["first streamed frame: ms", first],
        ["a request for 16 samples, for comparison: ms", one_pass],
        *([f"most memory in a stream of {each['frames']} frames: MB", each["most_mb"]] for each in streams),
    ]
    report.write("interpolation", {"machine": report.machine(), **found}, report.markdown(["what", "found"], rows))


if __name__ == "__main__":
    main()
