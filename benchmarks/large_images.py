"""What large images take of memory beside the networks: `python -m benchmarks.large_images`.

For each size, a process trains a tiny generator for two steps on a zip file of color images, with a probe reading,
snapshots and an evaluation on held-out images; another evaluates a tiny generator on as many samples as published
metrics take. Anonymous memory belongs to the process alone; the decoded images are mapped from a file and not counted.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from benchmarks import report
from benchmarks.data import resident_mb, zip_of_images
from latentd.models.families import build_generator
from latentd.training.evaluation.evaluate import generate_set
from latentd.training.evaluation.images import ImageEvaluator, RealImages
from latentd.training.evaluation.picture_network import load_picture_network
from latentd.training.recipes.base import Recipe
from latentd.training.recipes.load import load_recipe
from latentd.training.run.runner import RunConfig, run

_DIFFERENT_IMAGES = 256
"""The evaluated images repeat so many different ones."""
_RECIPE = """
description = "Fully connected networks, as small as can be"
objective = "hinge"
steps = 2
batch_size = 8
data = { name = "image-folder" }
generator = { family = "mlp", latent = { dim = 8 }, config = { hidden = [8] } }
discriminator = { config = { hidden = [8] } }
"""


class PeakMemory:
    """Watches the anonymous memory of this process."""

    def __init__(self) -> None:
        self._before = self._most = resident_mb()["anonymous_mb"]
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self._most = max(self._most, resident_mb()["anonymous_mb"])
            time.sleep(0.002)

    @property
    def grown(self) -> float:
        """The largest value so far, less the value at the start, in MB."""
        return self._most - self._before


def tiny_recipe(side: int, path: Path) -> Recipe:
    """Return a recipe for images of `side` pixels. Its file is written beside the images at `path`."""
    file = path.with_suffix(".toml")
    file.write_text(_RECIPE)
    return load_recipe(str(file), (f"data.resolution={side}",))[1]


def train(side: int, path: Path) -> None:
    """Train on the images at `path`."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        checkpoint = Path(folder) / "tiny.safetensors"
        run(RunConfig("tiny", tiny_recipe(side, path), 0, torch.device("cpu"), path, checkpoint), lambda _: None)


def evaluate(side: int, path: Path, samples: int) -> None:
    """Evaluate an untrained generator against random images."""
    generator = build_generator(tiny_recipe(side, path).spec()).eval()
    pixels = torch.randint(256, (_DIFFERENT_IMAGES, 3, side, side), dtype=torch.uint8)
    images = RealImages(pixels, rows=torch.arange(samples) % _DIFFERENT_IMAGES)
    evaluator = ImageEvaluator(load_picture_network(), images, images, samples)
    evaluator.metrics(generate_set(generator, range(samples)))


def measure(task: str, side: int, path: Path, samples: int) -> dict[str, float | str]:
    """Do a task, and return what it took. Call it once in a fresh process."""
    memory = PeakMemory()
    started = time.perf_counter()
    if task == "train":
        train(side, path)
    else:
        evaluate(side, path, samples)
    seconds = time.perf_counter() - started
    return {"task": task, "side": side, "anonymous_mb_grown": memory.grown, "seconds": seconds}


def main() -> None:
    """Measure each size in processes of its own and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--images", type=int, default=1500, help="images to train on")
    parser.add_argument("--samples", type=int, default=10_000, help="samples to evaluate")
    parser.add_argument("--measure", nargs=3, metavar=("TASK", "SIDE", "PATH"), help=argparse.SUPPRESS)
    options = report.parse(parser, sides=[64], images=120, samples=100)
    if options.measure:
        task, side, path = options.measure
        print(json.dumps(measure(task, int(side), Path(path), options.samples)))  # noqa: T201  # its answer
        return
    facts = report.machine()
    rows = []
    with tempfile.TemporaryDirectory(prefix="latentd-large-images-") as folder:
        for side in options.sides:
            path = zip_of_images(Path(folder) / str(side), options.images, side)
            for task in ("train", "evaluate"):
                command = [sys.executable, "-m", "benchmarks.large_images", "--measure", task, str(side), str(path)]
                command += ["--samples", str(options.samples)]
                environment = os.environ | {"XDG_CACHE_HOME": str(Path(folder) / "cache")}
                done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
                rows.append(json.loads(done.stdout))
    table = report.markdown(list(rows[0]), [list(row.values()) for row in rows])
    report.write(options.results, "large_images", {"machine": facts, "sizes": rows}, table)


if __name__ == "__main__":
    main()
