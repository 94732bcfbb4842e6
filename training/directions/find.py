"""The search for directions: named ones from measured properties and classes, then unsupervised ones."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from latentd.models.checkpoint import Checkpoint
from latentd.models.directions import DirectionCard, Directions, DirectionsCard, require_direction_space
from latentd.models.interpolation import Vector
from latentd.training.data.idx import IDX_SETS
from latentd.training.data.source import OnProgress, TaskProgress
from latentd.training.directions.dataset import FloatArray, LatentDataset
from latentd.training.directions.fit import fit, held_out
from latentd.training.directions.measures import MEASURES, ObjectImages
from latentd.training.directions.preview import PreviewRenderer
from latentd.training.directions.unsupervised import closed_form, principal_components
from latentd.training.evaluation.classifier import CLASSIFIER_DATASET, Classifier, load_classifier

_MIN_R_SQUARED = 0.2
_MIN_CLASSIFIED = 0.5
_MAX_COSINE = 0.9
"""Between two directions that are kept."""
_UNSUPERVISED = 3
"""Directions of each method."""
_RANGE = 3.0
"""Amounts go from -3 to 3 standard deviations; latents beyond are rare."""


@dataclass(frozen=True)
class _Candidate:
    name: str
    method: str
    about: str
    score: float
    scored: str
    unit: FloatArray

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


def find_directions(
    checkpoint: Checkpoint, samples: int, first_seed: int, on_progress: OnProgress = lambda _: None
) -> Directions:
    """Find directions from the samples of the seeds `first_seed` … `first_seed + samples - 1`.

    Each direction has a score; a preview if samples are images; and the length of one standard deviation of latents. A
    property's direction is kept if R² ≥ 0.2 on held-out latents. A class's direction is kept if at least half of the
    held-out latents are classified as that class at amount 3. A direction is dropped if its cosine with an earlier one
    is above 0.9.
    """
    generator = checkpoint.build()
    seeds = range(first_seed, first_seed + samples)
    dataset = LatentDataset.from_seeds(generator, seeds, on_progress=on_progress)
    candidates = []
    on_progress(TaskProgress("looking for directions", 0, None, "candidates"))
    for candidate in chain(_properties(dataset), _classes(dataset, checkpoint), _unsupervised(dataset)):
        candidates.append(candidate)
        on_progress(TaskProgress("looking for directions", len(candidates), None, "candidates"))
    on_progress(TaskProgress("looking for directions", len(candidates), len(candidates), "candidates"))
    found = _distinct(candidates)
    vectors = {each.name: _vector(dataset, each.unit) for each in found}
    renderer = PreviewRenderer(generator)
    cards: list[DirectionCard] = []
    for each in found:
        on_progress(TaskProgress("drawing previews", len(cards), len(found), "previews"))
        cards.append(each.card(renderer.render(vectors[each.name], _RANGE)))
    on_progress(TaskProgress("drawing previews", len(cards), len(found), "previews"))
    space, dim = require_direction_space(generator.spec)
    card = DirectionsCard(
        of=checkpoint.version, space=space, dim=dim, directions=tuple(cards), samples=samples, seed=first_seed
    )
    return Directions(card, vectors)


def _properties(dataset: LatentDataset) -> Iterator[_Candidate]:
    if dataset.generator.spec.output.picture_size is None:
        return
    images = ObjectImages(dataset.samples)
    black = images.have_black_background
    measures = {each.name: each for each in MEASURES if black or not each.needs_black_background}
    values = {name: measure.measure(images) for name, measure in measures.items()}
    for name, measure in measures.items():
        line = fit(dataset, values[name], [values[control] for control in measure.controls if control in values])
        if line.r_squared >= _MIN_R_SQUARED:
            scored = "R² on held-out latents" + (", within classes" if dataset.labels is not None else "")
            yield _Candidate(name, "linear fit", measure.about, line.r_squared, scored, line.unit)


def _classes(dataset: LatentDataset, checkpoint: Checkpoint) -> Iterator[_Candidate]:
    """Yield directions towards the embedded classifier's classes, for an unconditional generator of its data set."""
    if checkpoint.card.data.name != CLASSIFIER_DATASET or dataset.labels is not None:
        return
    classifier = load_classifier()
    logits = _logits(classifier, dataset)
    for index, name in enumerate(IDX_SETS[CLASSIFIER_DATASET].class_names):
        others = torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1).logsumexp(dim=1)
        unit = fit(dataset, (logits[:, index] - others).numpy()).unit
        shifted = held_out(dataset).shifted(_vector(dataset, unit), [_RANGE])
        classified = float((_logits(classifier, shifted).argmax(dim=1) == index).double().mean())
        if classified >= _MIN_CLASSIFIED:
            about = f"Towards the class {name}."
            scored = f"fraction of held-out latents classified as {name} at amount {_RANGE:g}"
            yield _Candidate(_to_name(name), "linear fit", about, classified, scored, unit)


@torch.no_grad()
def _logits(classifier: Classifier, dataset: LatentDataset) -> Tensor:
    return classifier(torch.from_numpy(dataset.samples)).double()  # type: ignore[no-any-return]  # [N, classes]


def _unsupervised(dataset: LatentDataset) -> Iterator[_Candidate]:
    for name, method, found, about, scored in (
        (
            "closed-form",
            "closed form",
            closed_form(dataset, _UNSUPERVISED),
            "Amplified most by the first layer",
            "fraction of the squared singular values of the first layer's weights",
        ),
        (
            "component",
            "principal components",
            principal_components(dataset, _UNSUPERVISED),
            "Varies most inside the generator",
            "fraction of the variance of w, or of the first activations",
        ),
    ):
        for index, each in enumerate(found, start=1):
            yield _Candidate(
                f"{name}-{index}", method, f"{about}, rank {index}; unnamed.", each.explained, scored, each.unit
            )


def _vector(dataset: LatentDataset, unit: FloatArray) -> Vector:
    return (unit * dataset.std_along(unit)).astype(np.float32)


def _distinct(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    kept: list[_Candidate] = []
    for each in candidates:
        if all(abs(float(each.unit @ other.unit)) <= _MAX_COSINE for other in kept):
            kept.append(each)
    return kept


def _to_name(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
