"""The speed of training, compared with a loop written by hand, and whether a killed run ends with the same bits.

The pictures are made here, because the host has no data sets.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.data import zip_of_images
from benchmarks.gpu.part import Part
from benchmarks.processes import ROOT
from benchmarks.rivals.training_loop import graphed_training_loop
from benchmarks.training import latentd_loop, plain_batches, plain_loop, prepare, repeated
from latentd.models.checkpoint import Checkpoint

_PICTURES = "data.name=image-folder"
_CASES = {
    "fashion-dcgan": ("fashion-dcgan", (_PICTURES, "data.resolution=28", "data.channels=1")),
    "dcgan-128": (
        "image-folder-dcgan",
        ("data.resolution=128", "generator.config.width=64", "discriminator.config.norm=none"),
    ),
}
"""Name → recipe and its settings."""
_TINY = ("batch_size=8", "generator.config.width=8", "discriminator.config.width=8")
_SMALLEST = {"fashion-dcgan": ("fashion-dcgan", (*_CASES["fashion-dcgan"][1], *_TINY))}
_VARIANTS = {
    "latentd, float32": ("precision=float32",),
    "latentd, bfloat16": ("precision=bfloat16",),
    "latentd, bfloat16, compiled": ("precision=bfloat16", "compile=true"),
}
"""Name → settings."""
_COMPILE_SECONDS = 60.0
_RESUMED = re.compile(r"resumed at step (\d+)")


def loops(
    part: Part, recipe: str, settings: tuple[str, ...], images: Path, folder: Path
) -> Iterator[tuple[str, Callable[[], Callable[[int], None]], float]]:
    """Yield for each loop its name, a function that builds it, and the seconds that this takes."""
    plain, source = prepare(recipe, *settings, data=images)
    yield "by hand", partial(plain_loop, plain, source, tuned=False), 0.0
    yield "by hand, fused", partial(plain_loop, plain, source, tuned=True), 0.0
    if part.device.type == "cuda":
        for precision in (torch.float32, torch.bfloat16):
            name = f"by hand, one CUDA graph, {str(precision).removeprefix('torch.')}"
            batches = plain_batches(plain, source)
            build = partial(graphed_training_loop, plain, batches, part.device, precision)
            yield name, lambda build=build: repeated(build()), 0.0  # type: ignore[misc]  # a bound default
    variants = list(_VARIANTS.items())[:1] if part.smallest else list(_VARIANTS.items())
    for name, changes in variants:
        changed, source = prepare(recipe, *settings, *changes, data=images)
        seconds = _COMPILE_SECONDS if changed.compile else 0.0
        yield name, partial(latentd_loop, changed, source, folder / name), seconds


def speed(part: Part, build: Callable[[], Callable[[int], None]]) -> dict[str, Any]:
    """Return the steps per second of a loop, and the memory that it takes."""
    _use_default_kernels()
    on_gpu = part.device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(part.device)
    run = build()
    run(2 if part.smallest else 20)
    part.synchronize()
    seconds, chunk = (0.1, 1) if part.smallest else (4.0, 20)
    steps, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        run(chunk)
        part.synchronize()
        steps += chunk
    memory = {"memory, MB": torch.cuda.max_memory_allocated(part.device) / 1e6} if on_gpu else {}
    return {"steps/s": steps / elapsed, **memory}


def _use_default_kernels() -> None:
    """Undo what latentd's training sets for the whole process, because the other loop has the defaults."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(False)


def compare(part: Part, name: str, recipe: str, settings: tuple[str, ...], images: Path, folder: Path) -> None:
    """Measure all loops of one case."""
    by_hand = 0.0
    for loop, build, seconds in loops(part, recipe, settings, images, folder):

        def measure(build: Callable[[], Callable[[int], None]] = build, by_hand: float = by_hand) -> dict[str, Any]:
            found = speed(part, build)
            return found | ({"of the loop by hand": found["steps/s"] / by_hand} if by_hand else {})

        found = part.measure(f"{name}: {loop}", measure, 1 if part.smallest else 8 + seconds)
        by_hand = by_hand or found.get("steps/s", 0.0)


def killed_and_resumed(part: Part, images: Path, folder: Path) -> dict[str, Any]:
    """Train with deterministic=true, once without a pause and once killed in the middle. Compare the weights."""
    steps = 8 if part.smallest else 3000
    whole, other = (_command(part, images, folder / name, steps) for name in ("whole", "killed"))
    subprocess.run(whole, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = subprocess.Popen(other, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((folder / "killed" / "state").glob("*.safetensors")):
        time.sleep(0.01)
    killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(other, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    resumed = _RESUMED.search(done.stderr)
    versions = [Checkpoint.read(next((folder / name).glob("*.safetensors"))).version for name in ("whole", "killed")]
    return {
        "steps": steps,
        "killed": killed,
        "resumed at step": int(resumed.group(1)) if resumed else 0,
        "same bits": versions[0] == versions[1],
    }


def _command(part: Part, images: Path, out: Path, steps: int) -> list[str]:
    settings = [f"steps={steps}", "deterministic=true", "data.resolution=32"]
    settings += ["save_seconds=0.001", *_TINY] if part.smallest else ["save_seconds=2"]
    command = [sys.executable, "-m", "latentd.training", "train", "image-folder-dcgan", "--data", str(images)]
    command += ["--out", str(out), "--device", part.device.type]
    return [*command, *(word for setting in settings for word in ("--set", setting))]


def main() -> None:
    """Measure the loops, then kill a run."""
    part = Part.from_command_line("training")
    with TemporaryDirectory(prefix="latentd-gpu-") as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        images = zip_of_images(folder, 200 if part.smallest else 5000)
        cases = list((_SMALLEST if part.smallest else _CASES).items())
        for index, (case, (recipe, settings)) in enumerate(cases):
            with part.reporting(case):
                compare(part, case, recipe, settings, images, folder / case)
            if index == 0:
                seconds = 1 if part.smallest else 50
                part.measure("killed and resumed", lambda: killed_and_resumed(part, images, folder), seconds)
    part.finish()


if __name__ == "__main__":
    main()
