"""All directions of a generator: measured ones by their words, then those that only stand out."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.checkpoint import Checkpoint
from models.directions import DirectionCard, Directions, DirectionsCard, space_of
from models.outputs import ImageOutput
from models.travel import Vector
from training.data.idx import IDX_SETS
from training.data.source import OnProgress, Progress
from training.directions.fit import area_under_curve, fit
from training.directions.measures import MEASURES, Pictures
from training.directions.preview import Strips
from training.directions.studied import Studied, Wide
from training.directions.unlabelled import Stretched, closed_form, components
from training.evaluation.classifier import CLASSIFIED, load_classifier

_LEAST_R_SQUARED = 0.2
_LEAST_AREA = 0.85
"""Below these, a word is not kept: what is measured does not lie along a line."""
_ALIKE = 0.9
"""Cosine of two directions that do the same thing; the first one found is kept."""
_UNLABELLED = 3
"""Of each kind."""
_RANGE = 3.0
"""Standard deviations, beyond which latents are rare."""


@dataclass(frozen=True)
class _Found:
    name: str
    method: str
    about: str
    score: float
    scored: str
    unit: Wide


def find_directions(
    read: Checkpoint, samples: int, first_seed: int, on_progress: OnProgress = lambda _: None
) -> Directions:
    """Study the samples of so many seeds. Every direction kept has a score, and a preview where samples are pictures.

    A word is kept where its line explains a fifth of the variance of what was measured (R² ≥ 0.2), or puts 85 of 100
    pairs of a class and another in order, on latents that were not fitted, and no word before it says the same
    (cosine ≤ 0.9).
    """
    generator = read.build()
    studied = Studied.of(generator, range(first_seed, first_seed + samples))
    on_progress(Progress("sampling", 0, 2, "stages"))
    found = _distinct([*_measured(studied), *_classes(studied, read)])
    on_progress(Progress("sampling", 1, 2, "stages"))
    found += [*_stretched("closed-form", closed_form(studied, _UNLABELLED))]
    found += [*_stretched("component", components(studied, _UNLABELLED))]
    strips = Strips(generator)
    vectors: dict[str, Vector] = {}
    cards = []
    for each in found:
        vectors[each.name] = (each.unit * studied.deviation(each.unit)).astype(np.float32)
        cards.append(
            DirectionCard(
                name=each.name,
                method=each.method,
                about=each.about,
                score=round(each.score, 4),
                scored=each.scored,
                range=_RANGE,
                preview=strips.draw(vectors[each.name], _RANGE),
            )
        )
    on_progress(Progress("sampling", 2, 2, "stages"))
    space, dim = space_of(generator.spec)
    card = DirectionsCard(
        of=read.version, space=space, dim=dim, directions=tuple(cards), samples=samples, seed=first_seed
    )
    return Directions(card, vectors)


def _measured(studied: Studied) -> Iterator[_Found]:
    """What can be measured on pictures."""
    if not isinstance(studied.generator.spec.output, ImageOutput):
        return
    pictures = Pictures(studied.samples)
    measures = {each.name: each for each in MEASURES if pictures.has_dark_ground or not each.of_things}
    values = {name: measure.of(pictures) for name, measure in measures.items()}
    for name, measure in measures.items():
        line = fit(studied, values[name], [values[held] for held in measure.held if held in values])
        if line.r_squared >= _LEAST_R_SQUARED:
            scored = "R² on held-out latents" + (", within classes" if studied.labels is not None else "")
            yield _Found(name, "linear fit", measure.about, line.r_squared, scored, line.unit)


def _classes(studied: Studied, read: Checkpoint) -> Iterator[_Found]:
    """The classes that the embedded classifier knows, of a generator that is not told one."""
    if read.card.data.name != CLASSIFIED or studied.labels is not None:
        return
    with torch.no_grad():
        logits = load_classifier()(torch.from_numpy(studied.samples)).double()  # [N, classes]
    classes = logits.argmax(dim=1).numpy()
    for index, name in enumerate(IDX_SETS[CLASSIFIED].class_names):
        others = torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1).logsumexp(dim=1)
        line = fit(studied, (logits[:, index] - others).numpy())
        area = area_under_curve(line, classes == index)
        if area >= _LEAST_AREA:
            scored = "area under the ROC curve on held-out latents"
            about = f"Toward what a classifier calls {name}."
            yield _Found(_as_name(name), "linear fit", about, area, scored, line.unit)


def _stretched(name: str, found: Sequence[Stretched]) -> Iterator[_Found]:
    methods = {
        "closed-form": ("closed form", "What the first layer's weights stretch most", "of the first layer's weights"),
        "component": ("principal components", "What the first activation varies in most", "of what was studied"),
    }
    method, about, whole = methods[name]
    for index, each in enumerate(found, start=1):
        place = "" if index == 1 else f", in place {index}"
        yield _Found(
            f"{name}-{index}",
            method,
            f"{about}{place}; nobody gave it a word.",
            each.share,
            f"share {whole}",
            each.unit,
        )


def _distinct(found: Sequence[_Found]) -> list[_Found]:
    kept: list[_Found] = []
    for each in found:
        if all(abs(float(each.unit @ other.unit)) <= _ALIKE for other in kept):
            kept.append(each)
    return kept


def _as_name(words: str) -> str:
    return re.sub("[^a-z0-9]+", "-", words.lower()).strip("-")
