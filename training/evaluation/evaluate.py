"""Evaluation of a generator: metrics with their deviation, and the real-data baseline."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentd.models.card import Card
from latentd.models.family import Generator
from latentd.models.latents import seeds_to_rows
from latentd.models.sampling import generate_rows
from latentd.models.stage_input import StageInput
from latentd.training.data.source import OnProgress, TaskProgress
from latentd.training.evaluation.evaluator import EvaluationSet, Evaluator


@dataclass(frozen=True)
class MetricResult:
    """A metric's mean and standard deviation over several sets, of generated and of real samples."""

    value: float
    std: float | None
    """None for a single set."""
    baseline: float
    """The metric of as many real samples outside the reference."""
    baseline_std: float | None


def evaluate_generator(
    generator: Generator, evaluator: Evaluator, rounds: int, on_progress: OnProgress = lambda _: None
) -> dict[str, MetricResult]:
    """Return all metrics of the samples of seeds 0 … `rounds` · `evaluator.num_samples` - 1, in `rounds` sets."""
    fakes, reals = [], []
    for number in range(rounds):
        seeds = range(number * evaluator.num_samples, (number + 1) * evaluator.num_samples)
        fakes.append(evaluator.metrics(generate_set(generator, seeds)))
        on_progress(TaskProgress("evaluating", 2 * number + 1, 2 * rounds, "sets"))
        reals.append(evaluator.metrics(evaluator.real_samples(number)))
        on_progress(TaskProgress("evaluating", 2 * number + 2, 2 * rounds, "sets"))
    return {
        name: MetricResult(
            *_mean_and_std([each[name] for each in fakes]),
            *_mean_and_std([each[name] for each in reals]),
        )
        for name in fakes[0]
    }


def with_metrics(card: Card, results: dict[str, MetricResult], evaluator: Evaluator, rounds: int) -> Card:
    """Return `card` with these metrics and baselines in place of the old ones."""
    metrics = {name: result.value for name, result in results.items()}
    baselines = {name: result.baseline for name, result in results.items()}
    measured = f"{count_sets(rounds)} of {evaluator.num_samples} samples, {evaluator.measured_on}"
    return card.model_copy(update={"metrics": metrics, "floors": baselines, "measured": measured})


def count_sets(rounds: int) -> str:
    """Return "1 set", "2 sets", …"""
    return "1 set" if rounds == 1 else f"{rounds} sets"


def generate_set(
    generator: Generator, seeds: range, to_rows: Callable[[range], StageInput] | None = None
) -> EvaluationSet:
    """Return the samples of `seeds`, the same as the service returns, and their labels. They are made when read.

    `to_rows`: seeds → the generator's rows, if they are not drawn as the service draws them.
    """
    spec = generator.spec

    def read(rows: slice) -> tuple[Tensor, Tensor | None]:
        drawn = to_rows(seeds[rows]) if to_rows else seeds_to_rows(spec, seeds[rows])
        labels = spec.condition.labels(drawn.condition)
        return torch.from_numpy(generate_rows(generator, drawn)), None if labels is None else torch.from_numpy(labels)

    return EvaluationSet(len(seeds), spec.output.shape, read)


def _mean_and_std(values: list[float]) -> tuple[float, float | None]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
