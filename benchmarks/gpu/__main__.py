"""Check, measure and train on a GPU: `python -m benchmarks.gpu [--minutes 8] [--only PART ...] [--device cuda]`.

The parts, in the order of their worth: `correct` runs the tests marked gpu and compares 10,000 samples; `serving` and
`training` measure; `zoo` trains recipes in the time that is left. Each result is written as soon as it is there.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks import processes, report
from benchmarks.gpu.results import Results
from latentd.models.hardware import choose_device, driver_version

PARTS = {"correct": 0.3, "serving": 0.45, "training": 0.5, "zoo": 1.0}
"""The fraction of the remaining time that a part may use. What it does not use is left for later parts."""
_MIN_SECONDS = 15
_GRACE_SECONDS = 10
"""A part whose time is over is asked to end, and killed after this time."""
_LOG_CHARACTERS = 4000


def command(part: str, seconds: float, options: Any) -> list[str]:
    """Return the command that runs a part."""
    if part == "zoo":
        arguments = ["-m", "benchmarks.zoo", "--minutes", f"{seconds / 60:.2f}", "--results", str(options.results)]
        arguments += ["--runs", str(options.results / "runs")] + ["--smoke"] * options.smoke
    else:
        arguments = ["-m", f"benchmarks.gpu.{part}", "--seconds", f"{seconds:.0f}", "--out", str(options.results)]
        arguments += ["--smallest"] * options.smoke
    return [sys.executable, *arguments, "--device", options.device]


def run_part(part: str, seconds: float, options: Any) -> dict[str, Any]:
    """Run a part for at most `seconds`. Return how it ended."""
    log = options.results / f"gpu-{part}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(part, seconds, options),
            cwd=processes.ROOT,
            env=os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {}),
            stderr=output,
            start_new_session=True,
        )
    started = time.monotonic()
    try:
        status = process.wait(timeout=seconds + _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        status = None
    finally:
        _end(process)
    figures: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1)}
    if status is None:
        figures["ended"] = "its time was over"
    elif status:
        figures["ended"] = f"with status {status}; see {log.name}"
        figures["log"] = {"end": log.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARACTERS:]}
    return figures


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a part and all processes that it has started."""
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    """Run the parts."""
    parser = report.parser(__doc__)
    parser.add_argument("--out", dest="results", type=Path, help="the same as --results")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options = report.parse(parser, minutes=60.0, device="cpu")
    end = time.monotonic() + 60 * options.minutes
    device = choose_device(options.device)
    results = Results(options.results.absolute())
    options.results = options.results.absolute()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    results.begin(report.machine() | {"driver": driver_version(device), "cuda": torch.version.cuda})
    failed = False
    for index, part in enumerate(options.only):
        left = end - time.monotonic()
        seconds = left if index == len(options.only) - 1 else left * PARTS[part]
        if seconds < _MIN_SECONDS:
            results.add(part, "the whole part", {"left out": f"{max(left, 0):.0f} s were left"})
            continue
        ended = run_part(part, seconds, options)
        results.add(part, "the whole part", ended)
        failed |= "ended" in ended
    sys.exit(failed)


if __name__ == "__main__":
    main()
