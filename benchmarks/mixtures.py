"""Whether ring-gan and grid-gan find all modes with every seed: `python -m benchmarks.mixtures`.

Each recipe is trained with each seed on one thread, two runs at a time, and evaluated on three sets of 2,500 samples.
"""

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
from latentd.training.recipes.load import load_recipe
from latentd.training.run.runner import RunConfig, run

_RECIPES = ("ring-gan", "grid-gan")
_SHOWN = ("modes", "high_quality", "reverse_kl", "least_spread", "most_spread", "divergence")
_ROUNDS = 3


def train(task: tuple[str, int, list[str]]) -> dict[str, Any]:
    """Train a recipe with a seed and settings. Return the metrics and the time it took."""
    name, seed, settings = task
    torch.set_num_threads(1)
    logging.getLogger("latentd.training").setLevel(logging.ERROR)
    _, recipe = load_recipe(name, settings)
    with tempfile.TemporaryDirectory(prefix="latentd-mixtures-") as folder:
        began, cpu = time.monotonic(), time.process_time()
        config = RunConfig(name, recipe, seed, torch.device("cpu"), None, Path(folder) / f"{name}.safetensors")
        checkpoint = run(config)
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu
    assert checkpoint  # noqa: S101  # only other ranks return none
    figures = evaluate_generator(checkpoint.build(), recipe.data.evaluator(None, lambda _: None), _ROUNDS)
    return {
        "recipe": name,
        "seed": seed,
        **{key: figures[key].value for key in _SHOWN},
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
    }


def table(results: list[dict[str, Any]]) -> str:
    """Return a table with one row per run."""
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
    """Train all runs and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE, changes the recipes")
    options = report.parse(parser, seeds=1, settings=["steps=10"])
    facts = report.machine()
    tasks = [(name, seed, options.settings) for name in _RECIPES for seed in range(options.seeds)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        results = list(processes.map(train, tasks))
    report.write(options.results, "mixtures", {"machine": facts, "runs": results}, table(results))


if __name__ == "__main__":
    main()
