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
from dataclasses import dataclass, replace
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
from latentd.training.algorithms.gan import GanRecipe
from latentd.training.data.source import DataSource

_PICTURES = "data.name=image-folder"
_VARIANTS = {"float32": ("precision=float32",), "bfloat16": ("precision=bfloat16",)}
"""Variants of latentd's loop: name → settings."""
_COMPILED = ("precision=bfloat16", "compile=true")
_TINY = ("batch_size=8", "generator.config.width=8", "discriminator.config.width=8")
_COMPILE_SECONDS = 70.0
_RESUMED = re.compile(r"resumed at step (\d+)")


Build = Callable[[], Callable[[int], None]]
"""Builds a loop: a function that trains some steps."""


@dataclass(frozen=True)
class Case:
    """Networks that are trained by several loops."""

    name: str
    recipe: str
    settings: tuple[str, ...]

    def loops(self, part: Part, images: Path, folder: Path) -> Iterator[tuple[str, Build]]:
        """Yield for each loop its name, and a function that builds it."""
        plain, source = prepare(self.recipe, *self.settings, data=images)
        yield "by hand", partial(plain_loop, plain, source, tuned=False)
        yield "by hand, fused", partial(plain_loop, plain, source, tuned=True)
        if part.device.type == "cuda":
            for precision in (torch.float32, torch.bfloat16):
                yield (
                    f"by hand, one CUDA graph, {str(precision).removeprefix('torch.')}",
                    partial(_graphed, plain, source, part.device, precision),
                )
        for name, changes in list(_VARIANTS.items())[: 1 if part.smallest else None]:
            yield f"latentd, {name}", self.latentd(changes, images, folder / name)

    def latentd(self, changes: tuple[str, ...], images: Path, folder: Path) -> Build:
        """Return a function that builds latentd's loop. `changes`: settings of the recipe."""
        recipe, source = prepare(self.recipe, *self.settings, *changes, data=images)
        return partial(latentd_loop, recipe, source, folder)


def _cases(smallest: bool) -> list[Case]:
    fashion = Case("fashion-dcgan", "fashion-dcgan", (_PICTURES, "data.resolution=28", "data.channels=1"))
    if smallest:
        return [replace(fashion, settings=(*fashion.settings, *_TINY))]
    large = ("data.resolution=128", "generator.config.width=64", "discriminator.config.norm=none")
    return [fashion, Case("dcgan-128", "image-folder-dcgan", large)]


def _graphed(
    recipe: GanRecipe, source: DataSource, device: torch.device, precision: torch.dtype
) -> Callable[[int], None]:
    return repeated(graphed_training_loop(recipe, plain_batches(recipe, source), device, precision))


def speed(part: Part, build: Build, by_hand: float) -> dict[str, Any]:
    """Return the steps per second of a loop, and the memory that it takes. `by_hand`: of the loop by hand, or 0."""
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
    ratio = {"of the loop by hand": steps / elapsed / by_hand} if by_hand else {}
    return {"steps/s": steps / elapsed, **ratio, **memory}


def _use_default_kernels() -> None:
    """Undo what latentd's training sets for the whole process, because the other loop has the defaults."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(False)


def compare(part: Part, case: Case, images: Path, folder: Path) -> float:
    """Measure all loops of a case. Return the steps per second of the loop by hand, 0 if it failed."""
    by_hand = 0.0
    with part.reporting(case.name):
        for loop, build in case.loops(part, images, folder):
            found = part.measure(
                f"{case.name}: {loop}", partial(speed, part, build, by_hand), 1 if part.smallest else 8
            )
            by_hand = by_hand or found.get("steps/s", 0.0)
    return by_hand


def killed_and_resumed(part: Part, images: Path, folder: Path) -> dict[str, Any]:
    """Train with deterministic=true, once without a pause and once killed in the middle. Compare the weights."""
    steps = 8 if part.smallest else 1000
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
    """Measure the loops, kill a run in between, and compile what there is time for."""
    part = Part.from_command_line("training")
    with TemporaryDirectory(prefix="latentd-gpu-") as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        images = zip_of_images(folder, 200 if part.smallest else 5000)
        first, *others = _cases(part.smallest)
        by_hand = {first: compare(part, first, images, folder / first.name)}
        killed = partial(killed_and_resumed, part, images, folder)
        part.measure("killed and resumed", killed, 1 if part.smallest else 40)
        by_hand |= {case: compare(part, case, images, folder / case.name) for case in others}
        if part.device.type == "cuda":  # on a CPU it needs a compiler for C++
            for case, rate in by_hand.items():
                build = case.latentd(_COMPILED, images, folder / case.name / "compiled")
                what = f"{case.name}: latentd, bfloat16, compiled"
                part.measure(what, partial(speed, part, build, rate), _COMPILE_SECONDS)
    part.finish()


if __name__ == "__main__":
    main()
