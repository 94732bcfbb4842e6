"""How much HTTP, batching and streaming add to an animation: `python -m benchmarks.interpolation`.

It measures `/interpolate`, compared with the same frames generated and encoded in this process as one job; the time
until the first streamed frame; and the memory of the service while streams of several lengths are read.
"""

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
from latentd.models.encoding.animation import AnimationOptions, encode_animation
from latentd.models.file_names import SHIPPED
from latentd.models.hardware import core_count, keep_freed_memory
from latentd.models.interpolation import KeyframePath
from latentd.models.latents import seeds_to_rows
from latentd.models.sampling import forward_pass, generate_rows
from latentd.models.stage_input import StageInput

_SEEDS = (1, 2, 3, 4)
_BATCH = 64


def body(frames: int, **fields: Any) -> dict[str, Any]:
    """Return a request for `frames` frames: a loop through all keyframes."""
    steps = frames // len(_SEEDS) + 1
    return {"keyframes": [{"seed": seed} for seed in _SEEDS], "steps": steps, "loop": True, **fields}


def in_process(frames: int) -> Callable[[], bytes]:
    """Return a function that generates `frames` frames in batches and encodes them as MP4."""
    checkpoint = Checkpoint.read(SHIPPED / f"{MODEL}.safetensors")
    generator, output = checkpoint.build(), checkpoint.card.spec.output
    keyframes = seeds_to_rows(checkpoint.card.spec, _SEEDS).inputs
    path = KeyframePath(len(_SEEDS), frames // len(_SEEDS) + 1, loop=True)

    def animation() -> bytes:
        rows = StageInput(path.interpolate(keyframes, "slerp"))
        parts = [forward_pass(generator, rows[i : i + _BATCH], _BATCH) for i in range(0, len(rows), _BATCH)]
        return encode_animation(
            output.frames(output.frame_data(np.concatenate(parts))), "mp4", AnimationOptions(24), "{}"
        )

    generate_rows(generator, StageInput(keyframes))
    return animation


def milliseconds(task: Callable[[], Any], rounds: int) -> float:
    """Return the median time of `task` over `rounds`."""
    took = []
    for _ in range(rounds):
        started = time.perf_counter()
        task()
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1e3


def interpolate(server: Server, accept: str, fields: dict[str, Any]) -> http.client.HTTPResponse:
    """Send a request and return its answer when the headers have arrived. Raises RuntimeError unless it is a 200."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)
    connection.request("POST", "/interpolate", json.dumps(fields), {"Accept": accept})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {answer.read()!r}")
    return answer


def read_animation(server: Server, frames: int) -> None:
    """Read a whole MP4."""
    interpolate(server, "video/mp4", body(frames)).read()


def read_first_frame(server: Server, frames: int) -> None:
    """Read a stream up to its first frame, and close it."""
    answer = interpolate(server, "text/event-stream", body(frames))
    while answer.readline() != b"event: frame\n":
        pass
    answer.readline()
    answer.close()


def stream_memory(server: Server, frames: int) -> dict[str, float]:
    """Read a whole stream and return the service's maximum resident memory meanwhile."""
    answer = interpolate(server, "text/event-stream", body(frames))
    most, seen = server.resident_bytes(), 0
    while line := answer.readline():
        if line == b"event: frame\n":
            seen += 1
            if seen % 100 == 0:
                most = max(most, server.resident_bytes())
    return {"frames": seen, "most_mb": most / 1e6}


def main() -> None:
    """Measure everything and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.set_defaults(frames=240, streams=(250, 1000, 4000), seconds=2.0)
    options = report.parse(parser, rounds=1, frames=8, streams=(8,), seconds=0.2)
    facts = report.machine()
    rounds, frames = options.rounds, options.frames
    keep_freed_memory()
    alone = {}
    for threads in sorted({1, core_count()}):
        torch.set_num_threads(threads)
        alone[f"{threads} threads"] = milliseconds(in_process(frames), rounds)
    torch.set_num_threads(1)
    with processes.latentd(LATENTD_MAX_FRAMES=str(max(frames, *options.streams))) as server:
        read_animation(server, frames)
        over_http = milliseconds(lambda: read_animation(server, frames), rounds)
        first = milliseconds(lambda: read_first_frame(server, frames), rounds)
        one_pass = processes.load(server, clients=1, samples=16, seconds=options.seconds)["p50_ms"]
        streams = [stream_memory(server, length) for length in (*options.streams, *options.streams)]
    found = {
        "in_process_ms": alone,
        "over_http_ms": over_http,
        "over_http_of_in_process": over_http / min(alone.values()),
        "first_frame_ms": first,
        "generate_16_ms": one_pass,
        "streams": streams,
    }
    rows = [
        *([f"{frames} frames as MP4 in process, {name}: ms", each] for name, each in alone.items()),
        [f"{frames} frames as MP4 over HTTP: ms", over_http],
        ["… divided by the better one in process", found["over_http_of_in_process"]],
        ["first streamed frame: ms", first],
        ["a request for 16 samples, for comparison: ms", one_pass],
        *([f"most memory in a stream of {each['frames']} frames: MB", each["most_mb"]] for each in streams),
    ]
    report.write(
        options.results, "interpolation", {"machine": facts, **found}, report.markdown(["what", "found"], rows)
    )


if __name__ == "__main__":
    main()
