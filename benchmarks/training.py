"""The speed of training: `python -m benchmarks.training`.

It compares latentd's loop with all features on to a plain loop written by hand, with the same networks and data, in
turns. It also measures data loading without training, the cost of saving the state, and one and two ranks.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import processes, report
from benchmarks.data import zip_of_images
from benchmarks.rivals.training_loop import training_loop
from latentd.models.checkpoint import Checkpoint
from latentd.models.hardware import choose_device, core_count
from latentd.training.algorithms.base import Algorithm
from latentd.training.algorithms.gan import GanRecipe
from latentd.training.build import BuildContext, build
from latentd.training.data.sets.images import ImageFolder
from latentd.training.data.source import DataSource
from latentd.training.loop import train
from latentd.training.recipes.load import load_recipe
from latentd.training.run.state import StateDirectory
from latentd.training.world import World

_STEPS = {"fashion-dcgan": 10, "grid-gan": 100, "ring-gan": 100}
"""Recipe → steps per round."""
_SETTINGS = (
    "steps=1000000",
    "objective=non-saturating",
    "penalties={}",
    "noise={start=1e-6, until=1e-6}",  # none after the first step
)
"""Changes of the recipes: the loop written by hand has one loss, no penalty and no noise."""
_BATCH = 64
_STEPS_BETWEEN_SAVES = 5


def prepare(name: str, *settings: str, data: Path | None = None) -> tuple[GanRecipe, DataSource]:
    """Load a recipe, changed for the comparison and by `settings`, and its data."""
    _, recipe = load_recipe(name, (*_SETTINGS, *settings))
    assert isinstance(recipe, GanRecipe)  # noqa: S101  # all of the compared recipes are GANs
    return recipe, recipe.data.load(data, lambda _: None)


def latentd_loop(recipe: GanRecipe, source: DataSource, folder: Path) -> Callable[[int], None]:
    """Return a function that trains some steps as `latentd train` does, and saves the state."""
    algorithm = make_algorithm(recipe, source)
    states = StateDirectory(folder / "state", {})
    done, saved_at = 0, time.monotonic()

    def save_if_due(step: int, _: Any) -> None:
        nonlocal saved_at
        if time.monotonic() - saved_at >= recipe.save_seconds:
            saved_at = time.monotonic()
            states.start_saving(algorithm, step, 0.0)

    def run(steps: int) -> None:
        nonlocal done
        train(algorithm, done + steps, save_if_due, steps_done=done)
        done += steps

    return run


def make_algorithm(recipe: GanRecipe, source: DataSource) -> Algorithm:
    """Return the algorithm as `latentd train` builds it."""
    return build(recipe, BuildContext(source, recipe.spec(), 0, choose_device("auto"), World()))


def plain_loop(recipe: GanRecipe, source: DataSource, tuned: bool) -> Callable[[int], None]:
    """Return a function that trains some steps of the loop written by hand."""
    return repeated(training_loop(recipe, plain_batches(recipe, source), choose_device("auto"), tuned))


def repeated(step: Callable[[], None]) -> Callable[[int], None]:
    """Return a function that takes some steps."""

    def run(steps: int) -> None:
        for _ in range(steps):
            step()

    return run


def plain_batches(recipe: GanRecipe, source: DataSource) -> Iterator[Tensor]:
    """Return batches of real samples on the device, as a loop written by hand reads them."""
    batches = source.draw(recipe.batch_size, 0)
    if recipe.data.output.bounded:
        return (samples.to(choose_device("auto")).float() / 127.5 - 1 for samples, _ in batches)
    return (samples.to(choose_device("auto")) for samples, _ in batches)


def compare(name: str, steps: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Return the images per second of three loops that take turns. Ratios are medians over rounds."""
    recipe, source = prepare(name)
    loops = {
        "by hand": plain_loop(recipe, source, tuned=False),
        "by hand, tuned": plain_loop(recipe, source, tuned=True),
        "latentd": latentd_loop(recipe, source, folder),
    }
    for run in loops.values():
        run(max(steps // 4, 3))
    rates: dict[str, list[float]] = {loop: [] for loop in loops}
    for _ in range(rounds):
        for loop, run in loops.items():
            started = time.perf_counter()
            run(steps)
            rates[loop].append(steps * recipe.batch_size / (time.perf_counter() - started))
    ratios = {
        loop: statistics.median(ours / theirs for ours, theirs in zip(rates["latentd"], rates[loop], strict=True))
        for loop in ("by hand", "by hand, tuned")
    }
    medians = {loop: statistics.median(values) for loop, values in rates.items()}
    return {"recipe": name, "images_per_s": medians, "ratios": ratios}


def loading(folder: Path, images: int, batches: int) -> dict[str, float]:
    """Return the images per second of data loading without training: a set in memory, and one mapped from its cache."""
    _, fashion = prepare("fashion-dcgan")
    large = ImageFolder(name="image-folder", resolution=64).load(zip_of_images(folder, images), lambda _: None)
    return {
        "fashion-mnist": _images_per_s(fashion, batches),
        "64 x 64 in color, mapped": _images_per_s(large, batches),
    }


def _images_per_s(source: DataSource, batches: int) -> float:
    loaded = source.draw(_BATCH, 0)
    started = time.perf_counter()
    for _ in range(batches):
        next(loaded)[0].float().div_(127.5).sub_(1.0)
    return _BATCH * batches / (time.perf_counter() - started)


def saving(name: str, folder: Path, seconds: float) -> dict[str, float]:
    """Return what one save would take if the loop waited for it."""
    recipe, source = prepare(name)
    algorithm = make_algorithm(recipe, source)
    states = StateDirectory(folder / name, {})
    train(algorithm, _STEPS_BETWEEN_SAVES, lambda *_: None)
    done, waits = _STEPS_BETWEEN_SAVES, []

    def run_for(on_step: Callable[[int, Any], None]) -> float:
        nonlocal done
        first, started = done, time.perf_counter()
        while time.perf_counter() < started + seconds:
            done = train(algorithm, done + _STEPS_BETWEEN_SAVES, on_step, steps_done=done)
        return (done - first) / (time.perf_counter() - started)

    def save(step: int, _: Any) -> None:
        if step % _STEPS_BETWEEN_SAVES == 0:
            started = time.perf_counter()
            states.save(algorithm, step, 0.0)
            waits.append(time.perf_counter() - started)

    without = run_for(lambda *_: None)
    run_for(save)
    size = sum(path.stat().st_size for path in (folder / name).iterdir()) / 2
    return {
        "steps_per_s": without,
        "state_mb": size / 1e6,
        "seconds_a_save": statistics.median(waits),
        # an upper bound: save waits for the disk too, while a run writes on another thread
        "share_at_60_s": statistics.median(waits) / 60,
    }


def ranks(name: str, steps: int, count: int, threads: int, folder: Path) -> dict[str, Any]:
    """Return the images per second of `count` ranks with `threads` threads each."""
    batch_size = prepare(name)[0].batch_size
    walls = []
    for length in (steps, 3 * steps):
        out = folder / f"{count}x{threads}-{length}"
        command = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", str(count)]
        command += ["--master-addr", "127.0.0.1", "--master-port", str(processes.free_port())]
        command += ["-m", "latentd.training", "train", name, "--set", f"steps={length}", "--out", str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        walls.append(Checkpoint.read(out / f"{name}.safetensors").card.wall_seconds)
    rate = report.ratio(batch_size * 2 * steps, walls[1] - walls[0])  # the difference leaves out what every start costs
    return {"ranks": count, "threads": threads, "images_per_s": rate}


def table(results: dict[str, Any]) -> str:
    """Return all results as Markdown."""
    loops = [[each["recipe"], *each["images_per_s"].values(), *each["ratios"].values()] for each in results["loops"]]
    parts = [
        report.markdown(
            ["images/s", "by hand", "by hand, tuned", "latentd", "latentd / by hand", "latentd / tuned"], loops
        ),
        report.markdown(["data alone", "images/s"], [[*each] for each in results["loading"].items()]),
        report.markdown(
            ["saving", *next(iter(results["saving"].values()))],
            [[name, *each.values()] for name, each in results["saving"].items()],
        ),
        report.markdown(list(results["ranks"][0]), [list(each.values()) for each in results["ranks"]]),
    ]
    return "\n\n".join(parts)


def main() -> None:
    """Measure everything and write the results."""
    cores = core_count()
    parser = report.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=cores)
    parser.set_defaults(
        steps=_STEPS,
        images=20_000,
        batches=500,
        saved=("fashion-dcgan", "ring-gan"),
        seconds=10.0,
        ranks=[(1, 1), (1, cores), (cores, 1)],
        ranks_run=("fashion-dcgan", 60),
    )
    options = report.parse(
        parser,
        rounds=1,
        steps={"ring-gan": 1},
        images=100,
        batches=1,
        saved=("ring-gan",),
        seconds=0.1,
        ranks=[(1, 1)],
        ranks_run=("ring-gan", 1),
    )
    torch.set_num_threads(options.threads)
    facts = report.machine()
    recipe, steps = options.ranks_run
    folder = Path(tempfile.mkdtemp(prefix="latentd-training-"))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        results = {
            "machine": facts,
            "threads": options.threads,
            "loading": loading(folder, options.images, options.batches),
            "loops": [compare(name, steps, options.rounds, folder / name) for name, steps in options.steps.items()],
            "saving": {name: saving(name, folder / "saving", options.seconds) for name in options.saved},
            "ranks": [ranks(recipe, steps, count, threads, folder / "ranks") for count, threads in options.ranks],
        }
    finally:
        shutil.rmtree(folder)
    report.write(options.results, "training", results, table(results))


if __name__ == "__main__":
    main()
