"""Whether a run that is killed again and again ends with the same bits: `python -m benchmarks.kills`.

One run is not disturbed. Another one is ended with `kill -9` at random times and started again, `--kills` times, and
then finishes. The two final generators are compared.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import report
from latentd.models.checkpoint import Checkpoint

_RECIPE = "ring-gan"
_LIFETIMES = (4.0, 16.0)
"""Seconds from the start of a process to its end. In the first four it loads Python's libraries."""
_RESUMED = re.compile(r"resumed at step (\d+)")


def command(out: Path, steps: int, save_seconds: float) -> list[str]:
    """Return the command that trains into `out`."""
    settings = ["--set", f"steps={steps}", "--set", f"save_seconds={save_seconds}"]
    return [sys.executable, "-m", "latentd.training", "train", _RECIPE, "--out", str(out), *settings]


def killed(task: list[str], after: float, environment: dict[str, str]) -> int:
    """Start `task`, kill it after some seconds and return the step that it resumed at, 0 if it started anew."""
    process = subprocess.Popen(task, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    time.sleep(after)
    if process.poll() is not None:
        raise RuntimeError("the run ended before it could be killed: give it more --steps")
    process.kill()
    resumed = _RESUMED.search(process.communicate()[1])
    return int(resumed.group(1)) if resumed else 0


def main() -> None:
    """Train both runs and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40_000)
    parser.add_argument("--save-seconds", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="of the random times")
    parser.set_defaults(lifetimes=_LIFETIMES)
    options = report.parse(parser, kills=1, steps=20, lifetimes=(0.1, 0.2))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    times = random.Random(options.seed)  # noqa: S311  # no secret
    facts = report.machine()
    folder = Path(tempfile.mkdtemp(prefix="latentd-kills-"))
    try:
        tasks = [command(folder / name, options.steps, options.save_seconds) for name in ("whole", "killed")]
        subprocess.run(tasks[0], env=environment, check=True, stdout=subprocess.DEVNULL)
        resumed = [killed(tasks[1], times.uniform(*options.lifetimes), environment) for _ in range(options.kills)]
        subprocess.run(tasks[1], env=environment, check=True, stdout=subprocess.DEVNULL)
        whole, other = (Checkpoint.read(folder / name / f"{_RECIPE}.safetensors") for name in ("whole", "killed"))
        results: dict[str, Any] = {
            "machine": facts,
            "kills": options.kills,
            "resumed_at": resumed,
            "resumed_past_0": sum(step > 0 for step in resumed),
            "versions": [whole.version, other.version],
            "same_bits": whole.version == other.version,
        }
    finally:
        shutil.rmtree(folder)
    columns = ["kills", "resumed_past_0", "resumed_at", "same_bits"]
    report.write(options.results, "kills", results, report.markdown(columns, [[results[name] for name in columns]]))


if __name__ == "__main__":
    main()
