"""How good a checkpoint's generator is: figures with their uncertainty, and the floor that real samples set."""

import statistics
from dataclasses import dataclass

import torch

from latentd.models.card import Card
from latentd.models.family import Generator
from latentd.models.latents import seeds_to_latents
from latentd.models.sampling import generate
from latentd.training.data.source import OnProgress, TaskProgress
from latentd.training.evaluation.evaluator import EvaluationSet, Evaluator


@dataclass(frozen=True)
class MetricResult:
    """One figure: its mean over several sets of samples, how far these differ, and the same of real samples."""

    value: float
    deviation: float | None
    """Standard deviation over the sets; None of a single one, which has none."""
    floor: float
    """Of as many real samples that the reference does not hold."""
    floor_deviation: float | None


def evaluate_generator(
    generator: Generator, evaluator: Evaluator, rounds: int, on_progress: OnProgress = lambda _: None
) -> dict[str, MetricResult]:
    """Judge samples of seeds 0 … `rounds` · `evaluator.num_samples` - 1, in as many sets, beside real ones."""
    fakes, reals = [], []
    for number in range(rounds):
        seeds = range(number * evaluator.num_samples, (number + 1) * evaluator.num_samples)
        fakes.append(evaluator.metrics(generate_set(generator, seeds)))
        on_progress(TaskProgress("judging", 2 * number + 1, 2 * rounds, "sets"))
        reals.append(evaluator.metrics(evaluator.real_samples(number)))
        on_progress(TaskProgress("judging", 2 * number + 2, 2 * rounds, "sets"))
    return {
        name: MetricResult(
            *_mean_and_deviation([each[name] for each in fakes]),
            *_mean_and_deviation([each[name] for each in reals]),
        )
        for name in fakes[0]
    }


def with_metrics(card: Card, figures: dict[str, MetricResult], evaluator: Evaluator, rounds: int) -> Card:
    """`card` with the figures and their floors in the place of those that it had."""
    metrics = {name: figure.value for name, figure in figures.items()}
    floors = {name: figure.floor for name, figure in figures.items()}
    measured = f"{sets(rounds)} of {evaluator.num_samples} samples, {evaluator.measured_on}"
    return card.model_copy(update={"metrics": metrics, "floors": floors, "measured": measured})


def sets(rounds: int) -> str:
    """So many, in words."""
    return "1 set" if rounds == 1 else f"{rounds} sets"


def generate_set(generator: Generator, seeds: range) -> EvaluationSet:
    """What the generator makes of `seeds`, as it would be served."""
    latents, labels = seeds_to_latents(generator.spec, seeds)
    samples = torch.from_numpy(generate(generator, latents, labels))
    known = [label for label in labels if label is not None]
    return EvaluationSet(samples, torch.tensor(known) if known else None)


def _mean_and_deviation(values: list[float]) -> tuple[float, float | None]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
