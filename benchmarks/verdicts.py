"""Does the verdict name what is wrong with a generator? `python -m benchmarks.verdicts`.

Sets of pictures that are good, copied, of few kinds or badly made: of drawings, and of avatars in styles that the
picture network has not seen. A run on garments that is stopped early. The shipped models. The thresholds in
training/evaluation/verdict.py were chosen with seeds below 100; results are from seeds of 100 and more.
"""

import colorsys
import math
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks import report
from benchmarks.processes import ROOT
from latentd.models.checkpoint import Checkpoint
from latentd.models.file_names import SUFFIX
from latentd.training.data.idx import load_idx_set
from latentd.training.data.sets.images import hold_out
from latentd.training.evaluation.evaluate import generate_set
from latentd.training.evaluation.evaluator import EvaluationSet
from latentd.training.evaluation.images import ImageEvaluator, RealImages
from latentd.training.evaluation.picture_collections import avatar_pictures
from latentd.training.evaluation.picture_network import load_picture_network
from latentd.training.evaluation.train_picture_network import FAULTS
from latentd.training.evaluation.verdict import judge
from latentd.training.recipes.load import load_recipe
from latentd.training.run.clusters import Clusters
from latentd.training.run.directory import read_metrics, read_run_json
from latentd.training.run.runner import RunConfig, run

_RESULT_SEEDS = 100
_SIDE = 64
_SHIPPED = ("fashion-dcgan", "fashion-dcgan-conditional")
_SETTINGS = (
    *("data.resolution=28", "data.channels=1", "batch_size=32"),
    *("generator.config.width=16", "discriminator.config.width=16"),
)
_UNSEEN = 500
"""Pictures beyond the training data."""


@dataclass(frozen=True)
class Outcome:
    """The verdict on one generator."""

    made: str
    """How the generator was made."""
    expected: str
    """What its verdict should be."""
    pictures: str
    learned: int
    """Number of training pictures."""
    seed: int
    density: float
    recall: float
    nearest: float
    """Each divided by that of real pictures."""
    verdict: str


def drawings(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return drawings [N, 64, 64, 3] of eight kinds, each of a shape in its own colors, and each one's kind."""
    random = np.random.RandomState(seed)
    kinds = random.randint(0, 8, count)
    return np.stack([_draw(int(kind), random) for kind in kinds]), kinds


def _draw(kind: int, random: np.random.RandomState) -> NDArray[np.uint8]:
    """Draw a shape before sky and ground at four times the size, and reduce."""
    side = 4 * _SIDE
    image = Image.new("RGB", (side, side), _color(kind / 8, random))
    drawing = ImageDraw.Draw(image)
    drawing.rectangle((0, int(side * random.uniform(0.4, 0.8)), side, side), _color(kind / 8 + 0.3, random))
    x, y = random.uniform(0.35, 0.65, 2) * side
    size = side * random.uniform(0.15, 0.3)
    box = (x - size, y - size, x + size, y + size)
    color, edge = _color(random.uniform(), random), _color(random.uniform(), random)
    if kind == 0:
        drawing.ellipse(box, color, edge, 8)
    elif kind == 1:
        drawing.rectangle(box, color, edge, 8)
    elif kind == 2:
        drawing.ellipse(box, None, color, int(size / 2))
    else:  # a hexagon, and stars with 5 to 11 points
        angles = np.arange(4 * kind - 6) * math.pi / (2 * kind - 3) + random.uniform(0, math.pi)
        radii = np.where(np.arange(len(angles)) % 2, 1.0 if kind == 3 else 0.5, 1.0) * size * 1.2
        drawing.polygon(list(zip(x + radii * np.cos(angles), y + radii * np.sin(angles), strict=True)), color, edge, 8)
    return np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX))


def _color(hue: float, random: np.random.RandomState) -> tuple[int, ...]:
    red, green, blue = colorsys.hsv_to_rgb(
        hue + random.uniform(-0.04, 0.04), random.uniform(0.4, 0.9), random.uniform(0.4, 1)
    )
    return tuple(round(255 * value) for value in (red, green, blue))


def made_sets(train: Tensor, unseen: Tensor, kinds: Tensor, seed: int) -> Iterator[tuple[str, str, Tensor]]:
    """Yield sets of pictures that a generator may make: how they were made, the verdict on them, and the pictures.

    `train`, `unseen`: pictures [N, 3, H, W] in [-1, 1]. `kinds`: those of the unseen ones, [N].
    """
    torch.manual_seed(seed)
    yield "unseen pictures", "good", unseen
    for strength in (0.02, 0.1):
        copies = train[torch.randint(len(train), (len(unseen),))]
        yield f"copies with noise of {strength:g}", "memorizes", copies + strength * torch.randn_like(copies)
    few = unseen[(kinds == kinds[0]) | (kinds == kinds[kinds != kinds[0]][0])]
    yield "unseen pictures of two kinds of eight", "lost modes", few[torch.randint(len(few), (len(unseen),))]
    ghosts = torch.stack([unseen[torch.randperm(len(unseen))] for _ in range(4)]).mean(dim=0)
    yield "means of four unseen pictures", "too early", ghosts
    bad = unseen
    for name in ("blended", "bent", "pieced", "noisy", "checkered"):
        bad = FAULTS[name](bad)
    yield "unseen pictures with five faults", "too early", bad
    yield "noise", "too early", torch.rand_like(unseen) * 2 - 1


def _floats(pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def judge_sets(
    name: str, pictures: NDArray[np.uint8], kinds: NDArray[np.int64], learned: int, seed: int
) -> Iterator[Outcome]:
    """Judge what `made_sets` yields. The first `learned` pictures are the data; a part of them is held out."""
    train, held_out = hold_out(RealImages(torch.from_numpy(pictures[:learned]).permute(0, 3, 1, 2)))
    evaluator = ImageEvaluator(load_picture_network(), held_out, train, 2000)
    baseline = evaluator.quick_metrics(evaluator.real_samples(0))
    unseen = slice(learned, learned + min(_UNSEEN, evaluator.num_samples))
    learned_pictures, _ = train.read(slice(None))
    sets = made_sets(learned_pictures, _floats(pictures[unseen]), torch.from_numpy(kinds[unseen]), seed)
    for made, expected, samples in sets:
        metrics = evaluator.quick_metrics(EvaluationSet.of(samples.clamp(-1, 1)))
        yield _outcome(made, expected, name, learned, seed, metrics, baseline)


def _outcome(
    made: str,
    expected: str,
    pictures: str,
    learned: int,
    seed: int,
    metrics: dict[str, float],
    baseline: dict[str, float],
) -> Outcome:
    verdict = judge(metrics, baseline)
    density, recall, nearest = (metrics[name] / baseline[name] for name in ("density", "recall", "nearest_training"))
    kind = verdict.kind if verdict else "none"
    return Outcome(made, expected, pictures, learned, seed, density, recall, nearest, kind)


def judge_early_run(seed: int, steps: int) -> Outcome:
    """Train on 2,000 garments for some steps and return the verdict on the last evaluation."""
    learned = 2000
    recipe_name, recipe = load_recipe("image-folder-dcgan", (*_SETTINGS, f"steps={steps}"))
    with tempfile.TemporaryDirectory(prefix="latentd-verdicts-") as folder:
        data, path = Path(folder) / "garments.zip", Path(folder) / "run" / f"{recipe_name}{SUFFIX}"
        with zipfile.ZipFile(data, "w") as archive:
            for number, pixels in enumerate(_garments(seed)[:learned]):
                archive.writestr(f"{number}.png", imagecodecs.png_encode(pixels, level=1))
        run(RunConfig(recipe_name, recipe, seed, torch.device("cpu"), data, path), lambda _: None)
        metrics = [entry["figures"] for entry in read_metrics(path.parent) if "figures" in entry][-1]
        baseline = (read_run_json(path.parent) or {})["floors"]
    return _outcome("run stopped early", "too early", "garments", learned, seed, metrics, baseline)


def judge_shipped(name: str, learned: int, seed: int) -> Outcome:
    """Return the verdict on a shipped model, as if its data were `learned` garments."""
    garments = torch.from_numpy(_garments(seed)[:learned])[:, None]
    train, held_out = hold_out(RealImages(garments))
    evaluator = ImageEvaluator(load_picture_network(), held_out, train, 2000)
    baseline = evaluator.quick_metrics(evaluator.real_samples(0))
    generator = Checkpoint.read(ROOT / "models" / "checkpoints" / f"{name}{SUFFIX}").build()
    first = seed * evaluator.num_samples
    metrics = evaluator.quick_metrics(generate_set(generator, range(first, first + evaluator.num_samples)))
    return _outcome(name, "good", "garments", learned, seed, metrics, baseline)


def _garments(seed: int) -> NDArray[np.uint8]:
    """Return the garments of Fashion-MNIST, [60000, 28, 28], in random order."""
    return np.random.RandomState(seed).permutation(load_idx_set("fashion-mnist", None, lambda _: None).images)


def avatars(style: str, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return avatars of a style that the picture network has not seen, and which of eight clusters each belongs to."""
    pictures = np.stack(list(avatar_pictures(style, range(seed * count, (seed + 1) * count))))
    features, _ = load_picture_network().extract(_floats(pictures))
    clusters = Clusters(features, 8, torch.Generator().manual_seed(0)).nearest(features)
    return pictures, clusters.numpy()


def table(outcomes: list[Outcome]) -> str:
    """Return a table of what was expected and what was found."""
    rows = [
        [
            each.made,
            each.pictures,
            each.learned,
            each.seed,
            each.density,
            each.recall,
            each.nearest,
            each.verdict if each.verdict == each.expected else f"**{each.verdict}**, not {each.expected}",
        ]
        for each in outcomes
    ]
    right = sum(each.verdict == each.expected for each in outcomes)
    head = ["made", "pictures", "learned", "seed", "density", "recall", "nearest", "verdict"]
    return f"{report.markdown(head, rows)}\n\n{right} of {len(outcomes)} verdicts as expected"


def main() -> None:
    """Judge all sets and runs and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--seed", type=int, default=_RESULT_SEEDS)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 1000], help="of the training data")
    parser.add_argument(
        "--styles", nargs="*", default=["voxel-art", "sprouts"], help="styles of avatars; need latentd[pictures]"
    )
    parser.add_argument("--steps", type=int, default=50, help="of the run that is stopped early")
    parser.set_defaults(shipped=_SHIPPED)
    options = report.parse(parser, sizes=[100], styles=[], steps=2, shipped=[])
    facts = report.machine()
    count = max(options.sizes) + _UNSEEN
    collections = {"drawings": drawings(count, options.seed)}
    collections |= {style: avatars(style, count, options.seed) for style in options.styles}
    outcomes = [
        outcome
        for name, (pictures, kinds) in collections.items()
        for learned in options.sizes
        for outcome in judge_sets(name, pictures, kinds, learned, options.seed)
    ]
    outcomes += [judge_shipped(name, learned, options.seed) for name in options.shipped for learned in options.sizes]
    outcomes.append(judge_early_run(options.seed, options.steps))
    results = {"machine": facts, "outcomes": [asdict(each) for each in outcomes]}
    report.write(options.results, "verdicts", results, table(outcomes))


if __name__ == "__main__":
    main()
