"""Does the alarm tell runs that collapse from runs that do not? `python -m benchmarks.collapse`.

Short runs on mixtures and on Fashion-MNIST, as they should be and broken on purpose. The truth is how a run ended,
measured apart from the alarm: it collapsed if it found fewer than half the modes, or covers less than half of what
healthy runs of its kind cover at the median, or was not finite any more. Seeds below 100 were for finding the alarm's
thresholds; results are of seeds from 100 on.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import report
from latentd.training.data.idx import load_idx_set
from latentd.training.directory import read_metrics
from latentd.training.loop import TrainingDiverged
from latentd.training.recipe import load_recipe
from latentd.training.run import RunConfig, run

_RESULT_SEEDS = 100
_MIXTURE = ("steps=1500", "batch_size=128", "precision=float32")
_IMAGES = ("steps=1000", "batch_size=32", "generator.config.width=16", "discriminator.config.width=16")
_HINGE = ("objective=hinge", "discriminator.config.norm=none")
_SPECTRAL = ("objective=hinge", "discriminator.config.norm=spectral")
_MINIMAX = ("objective=minimax", "discriminator.config.norm=none")
_NO_NOISE, _NO_PENALTY = "noise.until=0.0001", "penalties={}"
_HEALTHY_OF_ONE_BROKEN = 4
"""Runs on the ring, of which there is one healthy way and several broken ones."""


@dataclass(frozen=True)
class Way:
    """To train: a recipe and what is changed of it."""

    recipe: str
    settings: tuple[str, ...]
    broken: bool = True
    leaks: bool = False
    """Whether real images carry their class where the discriminator can read it."""


WAYS = {
    "ring": Way("ring-gan", _MIXTURE, broken=False),
    "ring, no noise, bandwidth 30": Way(
        "ring-gan", (*_MIXTURE, _NO_NOISE, _NO_PENALTY, "discriminator.config.bandwidth=30.0")
    ),
    "ring, learning rates × 10": Way(
        "ring-gan", (*_MIXTURE, _NO_NOISE, "generator_lr=0.02", "discriminator_lr=0.03", "objective=non-saturating")
    ),
    "ring, too strong a discriminator": Way(
        "ring-gan",
        (*_MIXTURE, _NO_NOISE, _NO_PENALTY, "objective=minimax", "discriminator_lr=0.01", "discriminator_steps=2"),
    ),
    "garments": Way("fashion-lsgan", (*_IMAGES, *_HINGE, "generator_lr=2e-3", "discriminator_lr=2e-3"), broken=False),
    "garments, spectral normalisation": Way(
        "fashion-lsgan", (*_IMAGES, *_SPECTRAL, "generator_lr=4e-3", "discriminator_lr=4e-3"), broken=False
    ),
    "garments, learning rates × 10": Way(
        "fashion-lsgan", (*_IMAGES, *_HINGE, "generator_lr=0.02", "discriminator_lr=0.02")
    ),
    "garments, too strong a discriminator": Way(
        "fashion-lsgan", (*_IMAGES, *_MINIMAX, "discriminator_lr=1e-3", "discriminator_steps=4")
    ),
    "garments, label leak": Way("fashion-lsgan", (*_IMAGES, *_MINIMAX, "generator.conditional=true"), leaks=True),
}


@dataclass
class Outcome:
    """How one run went."""

    way: str
    seed: int
    reached: float | None
    """Modes found, or coverage; None where it was not finite."""
    alarms: list[dict[str, Any]] = field(default_factory=list)
    vitals: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def play(way: str, seed: int, leaking: Path) -> Outcome:
    """Train in this way, and look at how it ended."""
    how = WAYS[way]
    name, recipe = load_recipe(how.recipe, how.settings)
    with tempfile.TemporaryDirectory(prefix="latentd-collapse-") as folder:
        path = Path(folder) / f"{name}.safetensors"
        config = RunConfig(name, recipe, seed, torch.device("cpu"), leaking if how.leaks else None, path)
        finite = True
        try:
            run(config, lambda _: None, lambda *_: None)
        except TrainingDiverged:
            finite = False
        moments = list(read_metrics(path.parent))
    figures = [moment["figures"] for moment in moments if "figures" in moment]
    reached = figures[-1].get("modes", figures[-1].get("coverage")) if finite and figures else None
    return Outcome(
        way,
        seed,
        reached,
        [{"step": moment["step"], **moment["alarm"]} for moment in moments if "alarm" in moment],
        [{"step": moment["step"], **moment["vitals"]} for moment in moments if "vitals" in moment],
        moments[-1]["seconds"] if moments else 0.0,
    )


def leaking_images(folder: Path) -> Path:
    """Fashion-MNIST with ten dots above each image, of which its class's is lit."""
    loaded = load_idx_set("fashion-mnist", None, lambda _: None)
    images = loaded.images.copy()
    images[:, :2] = 0
    for dot in range(10):
        images[loaded.labels == dot, :2, 4 + 2 * dot : 6 + 2 * dot] = 255
    for name, values in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", loaded.labels)):
        header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
        (folder / name).write_bytes(header + values.tobytes())
    return folder


def whole(outcomes: list[Outcome]) -> dict[str, float]:
    """What half of is a collapse, by recipe: all modes, or the median coverage of healthy runs."""
    found = {}
    for recipe in {way.recipe for way in WAYS.values()}:
        healthy = [
            each.reached
            for each in outcomes
            if WAYS[each.way].recipe == recipe and not WAYS[each.way].broken and each.reached is not None
        ]
        found[recipe] = {"ring-gan": 8.0}.get(recipe) or statistics.median(healthy)
    return found


def table(outcomes: list[Outcome]) -> tuple[dict[str, Any], str]:
    """What the alarm said of runs that collapsed and of runs that did not; those that were not finite stand apart."""
    all_of = whole(outcomes)
    rows = [
        "| runs | collapsed | of these alarmed | healthy | of these alarmed | not finite |",
        "|---|---|---|---|---|---|",
    ]
    sums = [0] * 5
    for way in WAYS:
        counts = [0] * 5
        for each in outcomes:
            if each.way != way:
                continue
            if each.reached is None:
                counts[4] += 1
                continue
            first = 0 if each.reached < all_of[WAYS[way].recipe] / 2 else 2
            counts[first] += 1
            counts[first + 1] += bool(each.alarms)
        sums = [total + count for total, count in zip(sums, counts, strict=True)]
        rows.append(f"| {way} | " + " | ".join(map(str, counts)) + " |")
    rows.append("| **all** | " + " | ".join(map(str, sums)) + " |")
    facts = {"recall": sums[1] / max(sums[0], 1), "false_alarms": sums[3] / max(sums[2], 1), "whole": all_of}
    rows.append(f"\nrecall {facts['recall']:.1%}, false alarms {facts['false_alarms']:.1%}")
    return facts, "\n".join(rows)


def kept(path: Path | None) -> list[Outcome]:
    """The runs that the file of `--keep` has from before."""
    if path is None or not path.is_file():
        return []
    return [Outcome(**json.loads(line)) for line in path.read_text().splitlines()]


def say(text: str) -> None:
    """At once, also into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first-seed", type=int, default=_RESULT_SEEDS)
    parser.add_argument("--runs", type=int, default=5, help="of each way on garments; on the ring there are more")
    parser.add_argument("--keep", type=Path, help="file of runs, a line each: what it has is not run again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("training").setLevel(logging.ERROR)
    machine = report.machine()
    outcomes = kept(options.keep)
    with tempfile.TemporaryDirectory(prefix="latentd-leak-") as folder:
        leaking = leaking_images(Path(folder))
        for way, how in WAYS.items():
            ring = how.recipe == "ring-gan"
            runs = options.runs * (1 if not ring else 2 if how.broken else 2 * _HEALTHY_OF_ONE_BROKEN)
            done = {each.seed for each in outcomes if each.way == way}
            for seed in sorted({*range(options.first_seed, options.first_seed + runs)} - done):
                outcome = play(way, seed, leaking)
                outcomes.append(outcome)
                kinds = ", ".join(alarm["kind"] for alarm in outcome.alarms) or "no alarm"
                say(f"{outcome.seed} {way}: reached {outcome.reached}, {kinds}, {outcome.seconds:.0f} s")
                if options.keep:
                    with options.keep.open("a") as file:
                        file.write(json.dumps(outcome.__dict__) + "\n")
    facts, text = table(outcomes)
    if options.first_seed >= _RESULT_SEEDS:
        runs_told = [
            {"way": each.way, "seed": each.seed, "reached": each.reached, "alarms": each.alarms} for each in outcomes
        ]
        report.write("collapse", {"machine": machine, **facts, "runs": runs_told}, text)
    else:
        say(text)


if __name__ == "__main__":
    main()
