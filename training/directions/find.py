"""All directions of a generator: measured ones by their words, then those that only stand out."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentd.models.checkpoint import Checkpoint
from latentd.models.directions import DirectionCard, Directions, DirectionsCard, direction_space
from latentd.models.interpolation import Vector
from latentd.models.outputs import ImageOutput
from latentd.training.data.idx import IDX_SETS
from latentd.training.directions.dataset import Studied, Wide
from latentd.training.directions.fit import fit, judging
from latentd.training.directions.measures import MEASURES, Pictures
from latentd.training.directions.preview import Strips
from latentd.training.directions.unlabelled import closed_form, components
from latentd.training.evaluation.classifier import CLASSIFIER_DATASET, Classifier, load_classifier

_LEAST_R_SQUARED = 0.2
_LEAST_REACHED = 0.5
"""Below these a word is not kept: the direction does not do what it says."""
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

    def card(self, preview: str | None) -> DirectionCard:
        return DirectionCard(
            name=self.name,
            method=self.method,
            about=self.about,
            score=round(self.score, 4),
            scored=self.scored,
            range=_RANGE,
            preview=preview,
        )


def find_directions(read: Checkpoint, samples: int, first_seed: int) -> Directions:
    """Study the samples of so many seeds. Every direction kept has a score, and a preview where samples are pictures.

    A word is kept where, on latents that were not fitted, its line explains a fifth of the variance of what was
    measured (R² ≥ 0.2), or of a class, where half of them come to be called so at the end of the range; and where no
    word before it says the same (cosine ≤ 0.9).
    """
    generator = read.build()
    studied = Studied.of(generator, range(first_seed, first_seed + samples))
    found = list(_distinct([*_measured(studied), *_classes(studied, read), *_unlabelled(studied)]))
    vectors = {each.name: _vector(studied, each.unit) for each in found}
    strips = Strips(generator)
    cards = [each.card(strips.draw(vectors[each.name], _RANGE)) for each in found]
    space, dim = direction_space(generator.spec)
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
    if read.card.data.name != CLASSIFIER_DATASET or studied.labels is not None:
        return
    classifier = load_classifier()
    logits = _logits(classifier, studied)
    for index, name in enumerate(IDX_SETS[CLASSIFIER_DATASET].class_names):
        others = torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1).logsumexp(dim=1)
        unit = fit(studied, (logits[:, index] - others).numpy()).unit
        far = judging(studied).moved(_vector(studied, unit), [_RANGE])
        reached = float((_logits(classifier, far).argmax(dim=1) == index).double().mean())
        if reached >= _LEAST_REACHED:
            about = f"Toward what the classifier calls {name}."
            scored = f"share of held-out latents that are called so at amount {_RANGE:g}"
            yield _Found(_as_name(name), "linear fit", about, reached, scored, unit)


@torch.no_grad()
def _logits(classifier: Classifier, studied: Studied) -> Tensor:
    return classifier(torch.from_numpy(studied.samples)).double()  # type: ignore[no-any-return]  # [N, classes]


def _unlabelled(studied: Studied) -> Iterator[_Found]:
    """What stands out, by numbers in the place of words."""
    for name, method, found, about, scored in (
        (
            "closed-form",
            "closed form",
            closed_form(studied, _UNLABELLED),
            "What the first layer stretches most",
            "share of the squared singular values of the first layer's weights",
        ),
        (
            "component",
            "principal components",
            components(studied, _UNLABELLED),
            "What varies most inside the generator",
            "share of the variance of w, or of the first activation",
        ),
    ):
        for index, each in enumerate(found, start=1):
            words = f"{about}, number {index}; nobody has given it a word."
            yield _Found(f"{name}-{index}", method, words, each.share, scored, each.unit)


def _vector(studied: Studied, unit: Wide) -> Vector:
    return (unit * studied.deviation(unit)).astype(np.float32)


def _distinct(found: Sequence[_Found]) -> list[_Found]:
    kept: list[_Found] = []
    for each in found:
        if all(abs(float(each.unit @ other.unit)) <= _ALIKE for other in kept):
            kept.append(each)
    return kept


def _as_name(words: str) -> str:
    return re.sub("[^a-z0-9]+", "-", words.lower()).strip("-")
