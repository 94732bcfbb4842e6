"""Metrics on held-out data: whether those of two checkpoints can be compared, and which checkpoint is worse."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from latentd.models.checkpoint import Checkpoint
from latentd.training.evaluation.evaluator import MixtureEvaluator
from latentd.training.evaluation.images import ImageEvaluator

_DECIDING = (MixtureEvaluator.selection_metric, ImageEvaluator.selection_metric)
"""The metrics by which runs choose their best generator; less is better. Of cards that have both, the first counts."""

_MEASURED = re.compile(r"(?:.* )?(\d+) samples\b.*?, (.+)")
"""How cards say it: `2500 samples against held-out data, coordinates` or `3 sets of 2500 samples, coordinates`."""


@dataclass(frozen=True)
class Comparison:
    """What the metrics say about a checkpoint that takes the place of another one."""

    is_worse: bool
    """False also if the metrics cannot be compared."""
    text: str


def deciding_metric(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """Return the name and the value of the metric that decides; None if there is none."""
    return next(((name, metrics[name]) for name in _DECIDING if name in metrics), None)


def compare(new: Checkpoint, old: Checkpoint) -> Comparison:
    """Compare two checkpoints by the metric that decides.

    Both must be measured alike: on the same data, in sets of as many samples, by the same features.
    """
    metric, before = deciding_metric(new.card.metrics), deciding_metric(old.card.metrics)
    if metric is None or before is None:
        which = new if metric is None else old
        return Comparison(False, f"not compared: {which.version} has no metrics on held-out data")
    data, data_before = new.card.data, old.card.data
    if (data.name, data.sha256, metric[0]) != (data_before.name, data_before.sha256, before[0]):
        return Comparison(False, f"not compared: {new.version} was trained on other data than {old.version}")
    if _how(new.card.measured) != _how(old.card.measured):
        text = f"not compared: {new.version} was measured in another way than {old.version}; see latentd evaluate"
        return Comparison(False, text)
    is_worse = metric[1] > before[1]
    direction = "worse" if is_worse else "better" if metric[1] < before[1] else "the same"
    return Comparison(is_worse, f"{metric[0]} is {direction}: {metric[1]:.4g}, before {before[1]:.4g} (less is better)")


def _how(measured: str) -> object:
    """Return what has to be the same in two texts so that metrics can be compared."""
    match = _MEASURED.fullmatch(measured)
    return match.groups() if match else measured or object()  # nothing is known of an empty text
