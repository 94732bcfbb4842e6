"""Whether the alarm finds the runs that collapse, and only those: `python -m benchmarks.collapse`.

Short runs on mixtures and on Fashion-MNIST: some are healthy, and some are broken on purpose. Whether a run collapsed
is measured at its end, independently of the alarm. A run collapsed if it finds fewer than half of the modes, or if its
coverage is below half of the median coverage of healthy runs. Runs that diverged are counted separately. The thresholds
of the alarm were chosen with seeds below 100. The results are from seeds of 100 and more.
"""

import json
import logging
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import report
from latentd.models.json_lines import JsonLinesAppender, read_json_lines
from latentd.training.algorithms.base import TrainingDiverged
from latentd.training.data.idx import load_idx_set
from latentd.training.recipes.load import load_recipe
from latentd.training.run.directory import read_metrics
from latentd.training.run.runner import RunConfig, run

_RESULT_SEEDS = 100
_MIXTURE = ("steps=1500", "batch_size=128", "precision=float32")
_IMAGES = ("steps=1000", "batch_size=32", "generator.config.width=16", "discriminator.config.width=16")
_HINGE = ("objective=hinge", "discriminator.config.norm=none")
_SPECTRAL = ("objective=hinge", "discriminator.config.norm=spectral")
_MINIMAX = ("objective=minimax", "discriminator.config.norm=none")
_NO_NOISE, _NO_PENALTY = "noise.until=0.0001", "penalties={}"


@dataclass(frozen=True)
class Variant:
    """A recipe and the settings that change it."""

    recipe: str
    settings: tuple[str, ...]
    broken: bool = True
    leaks: bool = False
    """Whether the real images show their class in a place where the discriminator can read it."""

    @property
    def repeats(self) -> int:
        """Factor for `--runs`: runs on the ring are short, and only one of its variants is healthy."""
        if self.recipe != "ring-gan":
            return 1
        return 2 if self.broken else 8


VARIANTS = {
    "ring": Variant("ring-gan", _MIXTURE, broken=False),
    "ring, no noise, bandwidth 30": Variant(
        "ring-gan", (*_MIXTURE, _NO_NOISE, _NO_PENALTY, "discriminator.config.bandwidth=30.0")
    ),
    "ring, learning rates × 10": Variant(
        "ring-gan", (*_MIXTURE, _NO_NOISE, "generator_lr=0.02", "discriminator_lr=0.03", "objective=non-saturating")
    ),
    "ring, too strong a discriminator": Variant(
        "ring-gan",
        (*_MIXTURE, _NO_NOISE, _NO_PENALTY, "objective=minimax", "discriminator_lr=0.01", "discriminator_steps=2"),
    ),
    "garments": Variant(
        "fashion-lsgan", (*_IMAGES, *_HINGE, "generator_lr=2e-3", "discriminator_lr=2e-3"), broken=False
    ),
    "garments, spectral normalization": Variant(
        "fashion-lsgan", (*_IMAGES, *_SPECTRAL, "generator_lr=4e-3", "discriminator_lr=4e-3"), broken=False
    ),
    "garments, learning rates × 10": Variant(
        "fashion-lsgan", (*_IMAGES, *_HINGE, "generator_lr=0.02", "discriminator_lr=0.02")
    ),
    "garments, too strong a discriminator": Variant(
        "fashion-lsgan", (*_IMAGES, *_MINIMAX, "discriminator_lr=1e-3", "discriminator_steps=4")
    ),
    "garments, label leak": Variant("fashion-lsgan", (*_IMAGES, *_MINIMAX, "generator.conditional=true"), leaks=True),
}


@dataclass
class Outcome:
    """The result of one run."""

    variant: str
    seed: int
    reached: float | None
    """The modes found, or the coverage. None if the run diverged."""
    alarms: list[dict[str, Any]] = field(default_factory=list)
    vitals: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def train(name: str, seed: int, data: Path | None, settings: Sequence[str]) -> Outcome:
    """Train a variant with a seed and further settings, and measure the result."""
    variant = VARIANTS[name]
    recipe_name, recipe = load_recipe(variant.recipe, (*variant.settings, *settings))
    with tempfile.TemporaryDirectory(prefix="latentd-collapse-") as folder:
        path = Path(folder) / f"{recipe_name}.safetensors"
        config = RunConfig(recipe_name, recipe, seed, torch.device("cpu"), data, path)
        diverged = False
        try:
            run(config)
        except TrainingDiverged:
            diverged = True
        entries = list(read_metrics(path.parent))
    metrics = [entry["figures"] for entry in entries if "figures" in entry]
    reached = None if diverged or not metrics else metrics[-1].get("modes", metrics[-1].get("coverage"))
    return Outcome(
        name,
        seed,
        reached,
        [{"step": entry["step"], **entry["alarm"]} for entry in entries if "alarm" in entry],
        [{"step": entry["step"], **entry["vitals"]} for entry in entries if "vitals" in entry],
        entries[-1]["seconds"] if entries else 0.0,
    )


def leaking_images(folder: Path) -> Path:
    """Write Fashion-MNIST with a row of ten dots above each image, where the dot of its class is white."""
    loaded = load_idx_set("fashion-mnist", None, lambda _: None)
    images = loaded.images.copy()
    images[:, :2] = 0
    for dot in range(10):
        images[loaded.labels == dot, :2, 4 + 2 * dot : 6 + 2 * dot] = 255
    for name, values in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", loaded.labels)):
        header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
        (folder / name).write_bytes(header + values.tobytes())
    return folder


def healthy_levels(outcomes: list[Outcome]) -> dict[str, float]:
    """Return what a healthy run reaches, by recipe: all modes, or the median coverage. Less than half is a collapse."""
    levels = {}
    for recipe in {VARIANTS[outcome.variant].recipe for outcome in outcomes}:
        healthy = [
            outcome.reached
            for outcome in outcomes
            if VARIANTS[outcome.variant].recipe == recipe
            and not VARIANTS[outcome.variant].broken
            and outcome.reached is not None
        ]
        levels[recipe] = 8.0 if recipe == "ring-gan" else statistics.median(healthy)
    return levels


def table(outcomes: list[Outcome]) -> tuple[dict[str, Any], str]:
    """Count the alarms of runs that collapsed, and of runs that did not."""
    levels = healthy_levels(outcomes)
    rows = [
        "| runs | collapsed | of these alarmed | healthy | of these alarmed | diverged |",
        "|---|---|---|---|---|---|",
    ]
    sums = [0] * 5
    for name in dict.fromkeys(outcome.variant for outcome in outcomes):
        counts = [0] * 5
        for outcome in outcomes:
            if outcome.variant != name:
                continue
            if outcome.reached is None:
                counts[4] += 1
                continue
            column = 0 if outcome.reached < levels[VARIANTS[name].recipe] / 2 else 2
            counts[column] += 1
            counts[column + 1] += bool(outcome.alarms)
        sums = [total + count for total, count in zip(sums, counts, strict=True)]
        rows.append(f"| {name} | " + " | ".join(map(str, counts)) + " |")
    rows.append("| **all** | " + " | ".join(map(str, sums)) + " |")
    facts = {"recall": sums[1] / max(sums[0], 1), "false_alarms": sums[3] / max(sums[2], 1), "healthy_levels": levels}
    rows.append(f"\nrecall {facts['recall']:.1%}, false alarms {facts['false_alarms']:.1%}")
    return facts, "\n".join(rows)


def main() -> None:
    """Train all runs and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--first-seed", type=int, default=_RESULT_SEEDS)
    parser.add_argument(
        "--runs", type=int, default=5, help="of each variant on Fashion-MNIST; on the ring there are more"
    )
    parser.add_argument("--keep", type=Path, help="file with a line per run; runs that it has are not repeated")
    parser.set_defaults(variants=list(VARIANTS), settings=[])
    options = report.parse(parser, runs=1, variants=["ring, no noise, bandwidth 30"], settings=["steps=10"])
    torch.set_num_threads(1)
    logging.getLogger("latentd.training").setLevel(logging.ERROR)
    facts = report.machine()
    outcomes = list(read_json_lines(options.keep, lambda line: Outcome(**json.loads(line)))) if options.keep else []
    with tempfile.TemporaryDirectory(prefix="latentd-leak-") as folder:
        for name in options.variants:
            variant = VARIANTS[name]
            data = leaking_images(Path(folder)) if variant.leaks else None
            done = {outcome.seed for outcome in outcomes if outcome.variant == name}
            seeds = range(options.first_seed, options.first_seed + options.runs * variant.repeats)
            for seed in sorted(set(seeds) - done):
                outcome = train(name, seed, data, options.settings)
                outcomes.append(outcome)
                kinds = ", ".join(alarm["kind"] for alarm in outcome.alarms) or "no alarm"
                _print(f"{seed} {name}: reached {outcome.reached}, {kinds}, {outcome.seconds:.0f} s")
                if options.keep:
                    JsonLinesAppender(options.keep).append(json.dumps(asdict(outcome)))
    counts, text = table(outcomes)
    if options.first_seed < _RESULT_SEEDS:
        _print(text)
        return
    runs = [
        {"variant": each.variant, "seed": each.seed, "reached": each.reached, "alarms": each.alarms}
        for each in outcomes
    ]
    report.write(options.results, "collapse", {"machine": facts, **counts, "runs": runs}, text)


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # progress, at once even into a pipe


if __name__ == "__main__":
    main()
