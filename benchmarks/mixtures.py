"""Do ring-gan and grid-gan find all modes, whatever the seed? `python -m benchmarks.mixtures`.

Each recipe is trained with each seed, on one thread, two runs at a time, and judged on three sets of 2,500 samples.
"""

import argparse
import logging
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from latentd.training.evaluation.evaluate import evaluate_generator
from latentd.training.recipe import load_recipe
from latentd.training.run import RunConfig, run

_RECIPES = ("ring-gan", "grid-gan")
_SHOWN = ("modes", "high_quality", "reverse_kl", "least_spread", "most_spread", "divergence")
_ROUNDS = 3


def train(task: tuple[str, int]) -> dict[str, Any]:
    """One run's figures, and how long it took."""
    name, seed = task
    torch.set_num_threads(1)
    logging.getLogger("training").setLevel(logging.ERROR)
    _, recipe = load_recipe(name)
    with tempfile.TemporaryDirectory(prefix="latentd-mixtures-") as folder:
        began, cpu = time.monotonic(), time.process_time()
        config = RunConfig(name, recipe, seed, torch.device("cpu"), None, Path(folder) / f"{name}.safetensors")
        checkpoint = run(config, lambda _: None, lambda *_: None)
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu
    assert checkpoint  # noqa: S101  # alone, a rank writes
    figures = evaluate_generator(checkpoint.build(), recipe.data.evaluator(None, lambda _: None), _ROUNDS)
    return {
        "recipe": name,
        "seed": seed,
        **{key: figures[key].value for key in _SHOWN},
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
    }


def table(results: list[dict[str, Any]]) -> str:
    """A row a run."""
    rows = [
        "| recipe | seed | modes | high quality | reverse KL | spread, least | most | s | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {each['recipe']} | {each['seed']} | {each['modes']:.2f} | {each['high_quality']:.1%} | "
        f"{each['reverse_kl']:.4f} | {each['least_spread']:.2f} | {each['most_spread']:.2f} | "
        f"{each['seconds']:.0f} | {each['cpu_seconds']:.0f} |"
        for each in results
    ]
    return "\n".join(rows)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    machine = report.machine()
    tasks = [(name, seed) for name in _RECIPES for seed in range(options.seeds)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        results = list(processes.map(train, tasks))
    report.write("mixtures", {"machine": machine, "runs": results}, table(results))


if __name__ == "__main__":
    main()
