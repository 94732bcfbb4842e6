"""How fast training is: `python -m benchmarks.training`.

The loop with everything on against a plain loop written by hand, of the same networks on the same data, in turns; data
loading alone; what saving the state costs; one rank and two.
"""

import argparse
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

from benchmarks import report
from benchmarks.data import zip_of_images
from benchmarks.rivals.bare_loop import bare_loop
from latentd.models.checkpoint import Checkpoint
from latentd.models.hardware import choose_device, core_count
from latentd.training.build import BuildContext, build
from latentd.training.data import ImageFolder
from latentd.training.data.source import DataSource
from latentd.training.loop import Algorithm, train
from latentd.training.recipe import load_recipe
from latentd.training.settings.adversarial import AdversarialRecipe
from latentd.training.state import StateDirectory
from latentd.training.world import World

RECIPES = {"fashion-dcgan": 10, "grid-gan": 100, "ring-gan": 100}
"""With so many steps a round."""
_SETTINGS = ("steps=1000000",)
_IMAGES = 20_000


def prepare(name: str) -> tuple[AdversarialRecipe, DataSource]:
    """A recipe and its data."""
    _, recipe = load_recipe(name, _SETTINGS)
    assert isinstance(recipe, AdversarialRecipe)  # noqa: S101  # of RECIPES
    return recipe, recipe.data.load(None, lambda _: None)


def ours(recipe: AdversarialRecipe, source: DataSource, folder: Path) -> Callable[[int], None]:
    """A function that plays so many steps as `latentd train` does, state and all."""
    algorithm = make_algorithm(recipe, source)
    states = StateDirectory(folder / "state", {}, recipe.save_seconds)
    played = 0

    def play(steps: int) -> None:
        nonlocal played
        train(algorithm, played + steps, lambda step, _: states.offer(algorithm, step, 0.0), done=played)
        played += steps

    return play


def make_algorithm(recipe: AdversarialRecipe, source: DataSource) -> Algorithm:
    """Return the algorithm as `latentd train` builds it."""
    return build(recipe, BuildContext(source, recipe.spec(), 0, choose_device("auto"), World()))


def by_hand(recipe: AdversarialRecipe, source: DataSource, tuned: bool) -> Callable[[int], None]:
    """A function that plays so many steps of the plain loop."""
    step = bare_loop(recipe, _plain_batches(recipe, source), choose_device("auto"), tuned)

    def play(steps: int) -> None:
        for _ in range(steps):
            step()

    return play


def _plain_batches(recipe: AdversarialRecipe, source: DataSource) -> Iterator[Tensor]:
    drawn = source.draw(recipe.batch_size, 0)
    if recipe.data.output.bounded:
        return (samples.to(choose_device("auto")).float() / 127.5 - 1 for samples, _ in drawn)
    return (samples.to(choose_device("auto")) for samples, _ in drawn)


def compare(name: str, rounds: int, folder: Path) -> dict[str, Any]:
    """Images a second of three loops that take turns; ratios are medians over rounds."""
    recipe, source = prepare(name)
    trainables = {
        "by hand": by_hand(recipe, source, tuned=False),
        "by hand, tuned": by_hand(recipe, source, tuned=True),
        "latentd": ours(recipe, source, folder),
    }
    steps = RECIPES[name]
    for play in trainables.values():
        play(max(steps // 4, 3))
    speeds: dict[str, list[float]] = {who: [] for who in trainables}
    for _ in range(rounds):
        for who, play in trainables.items():
            started = time.perf_counter()
            play(steps)
            speeds[who].append(steps * recipe.batch_size / (time.perf_counter() - started))
    ratios = {
        who: statistics.median(mine / theirs for mine, theirs in zip(speeds["latentd"], speeds[who], strict=True))
        for who in ("by hand", "by hand, tuned")
    }
    return {"recipe": name, "images_per_s": {who: statistics.median(of) for who, of in speeds.items()}, "of": ratios}


def loading(folder: Path) -> dict[str, float]:
    """Images a second of data alone: the small set in memory, and a large one mapped from its cache."""
    _, fashion = prepare("fashion-dcgan")
    large = ImageFolder(name="image-folder", resolution=64).load(zip_of_images(folder, _IMAGES), lambda _: None)
    return {"fashion-mnist": _drawn_per_second(fashion), "64 x 64 in colour, mapped": _drawn_per_second(large)}


def _drawn_per_second(source: DataSource, batch: int = 64, batches: int = 500) -> float:
    drawn = source.draw(batch, 0)
    started = time.perf_counter()
    for _ in range(batches):
        next(drawn)[0].float().div_(127.5).sub_(1.0)
    return batch * batches / (time.perf_counter() - started)


def saving(name: str, folder: Path, seconds: float) -> dict[str, float]:
    """What one save takes, were the loop to wait for it."""
    recipe, source = prepare(name)
    algorithm = make_algorithm(recipe, source)
    states = StateDirectory(folder / name, {}, 0.0)
    train(algorithm, 5, lambda *_: None)
    played, stalls = 5, []

    def run_for(on_step: Callable[[int, Any], None]) -> float:
        nonlocal played
        until, first = time.perf_counter() + seconds, played
        started = time.perf_counter()
        while time.perf_counter() < until:
            played = train(algorithm, played + 5, on_step, done=played)
        return (played - first) / (time.perf_counter() - started)

    def save(step: int, _: Any) -> None:
        if step % 5 == 0:
            started = time.perf_counter()
            states.save_now(algorithm, step, 0.0)
            stalls.append(time.perf_counter() - started)

    without = run_for(lambda *_: None)
    run_for(save)
    size = sum(path.stat().st_size for path in (folder / name).iterdir()) / 2
    # save_now waits for the disk too, which a run does on another thread: this is the most that it can cost
    return {
        "steps_per_s": without,
        "state_mb": size / 1e6,
        "seconds_a_save": statistics.median(stalls),
        "share_at_60_s": statistics.median(stalls) / 60,
    }


def ranks(folder: Path, steps: int) -> list[dict[str, Any]]:
    """Images a second of one process on one thread, on all cores, and of a rank a core."""
    cores = core_count()
    cases = [(1, 1), (1, cores), (cores, 1)]
    return [_ranks_case(folder, steps, processes, threads) for processes, threads in cases]


def _ranks_case(folder: Path, steps: int, processes: int, threads: int) -> dict[str, Any]:
    walls = []
    for count in (steps, 3 * steps):
        out = folder / f"{processes}x{threads}-{count}"
        command = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", str(processes)]
        command += [
            "--master-addr",
            "127.0.0.1",
            "--master-port",
            "29555",
            "-m",
            "latentd.training",
            "train",
            "fashion-dcgan",
        ]
        command += ["--set", f"steps={count}", "--out", str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        walls.append(Checkpoint.read(out / "fashion-dcgan.safetensors").card.wall_seconds)
    rate = 64 * 2 * steps / (walls[1] - walls[0])  # the difference leaves out what every start costs
    return {"ranks": processes, "threads": threads, "images_per_s": rate}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=core_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts = report.machine()
    folder = Path(tempfile.mkdtemp(prefix="latentd-training-"))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        results = {
            "machine": facts,
            "threads": options.threads,
            "loading": loading(folder),
            "loops": [compare(name, options.rounds, folder / name) for name in RECIPES],
            "saving": {name: saving(name, folder / "saving", 10.0) for name in ("fashion-dcgan", "ring-gan")},
            "ranks": ranks(folder / "ranks", 60),
        }
    finally:
        shutil.rmtree(folder)
    report.write("training", results, table(results))


def table(results: dict[str, Any]) -> str:
    """All of it as Markdown."""
    loops = [[each["recipe"], *each["images_per_s"].values(), *each["of"].values()] for each in results["loops"]]
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


if __name__ == "__main__":
    main()
