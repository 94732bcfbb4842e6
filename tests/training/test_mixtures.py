"""Gaussian mixtures and their metrics, against values from theory and from the papers."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from latentd.training.data.sets.points import GaussianMixture
from latentd.training.data.source import DataError, DataSource
from latentd.training.evaluation.evaluator import EvaluationSet, MixtureEvaluator


def mixture(name: str) -> DataSource:
    return GaussianMixture(name=name).load(None, lambda _: None)


@pytest.mark.parametrize(("name", "modes"), [("gaussian", 1), ("ring", 8), ("grid", 25)])
def test_metrics_of_the_target_itself_match_theory(name: str, modes: int) -> None:
    evaluator = GaussianMixture(name=name).evaluator(None, lambda _: None)
    batches = [samples for samples, _ in islice(mixture(name).draw(2500, 0), 4)]
    for samples in (*map(EvaluationSet.of, batches), evaluator.real_samples(0), evaluator.real_samples(1)):
        metrics = evaluator.metrics(samples)
        assert metrics["modes"] == modes
        assert metrics["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=0.01)  # within 3σ in two dimensions
        assert metrics["reverse_kl"] < 0.02
        assert 0.8 < metrics["least_spread"] <= 1.02
        assert 0.98 < metrics["most_spread"] < 1.2
        assert metrics["frechet_distance"] < 0.05


def test_spread_is_measured_per_mode() -> None:
    centers = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
    evaluator = MixtureEvaluator(centers, 1.0)
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    samples = torch.cat([0.5 * noise, centers[1] + noise])
    metrics = evaluator.metrics(EvaluationSet.of(samples))
    truncated = 0.9744  # standard deviation of a normal distribution on the plane cut off at 3σ
    assert metrics["least_spread"] == pytest.approx(0.5 / truncated, abs=0.01)
    assert metrics["most_spread"] == pytest.approx(1.0, abs=0.01)


def test_collapse_shows_in_the_metrics() -> None:
    evaluator = GaussianMixture(name="ring").evaluator(None, lambda _: None)
    one_point = torch.tensor([[1.0, 0.0]]).repeat(2500, 1)

    def modes() -> float:
        return evaluator.metrics(EvaluationSet.of(one_point))["modes"]

    metrics = evaluator.metrics(EvaluationSet.of(one_point))
    assert (metrics["modes"], metrics["high_quality"]) == (1.0, 1.0)
    assert metrics["reverse_kl"] == pytest.approx(np.log(8))
    assert metrics["most_spread"] == 0.0
    one_point[:19] = torch.tensor([0.0, 1.0])  # a mode needs 20 samples
    assert modes() == 1.0
    one_point[19] = torch.tensor([0.0, 1.0])
    assert modes() == 2.0
    assert evaluator.metrics(EvaluationSet.of(torch.full((2500, 2), 50.0)))["modes"] == 0.0


def test_modes_are_where_the_papers_put_them() -> None:
    ring, _ = next(mixture("ring").draw(20000, 0))
    assert ring.norm(dim=1).mean().item() == pytest.approx(1.0, abs=1e-3)
    grid, _ = next(mixture("grid").draw(20000, 0))
    assert sorted({round(value) for value in grid.flatten().tolist()}) == [-4, -2, 0, 2, 4]
    with pytest.raises(DataError, match="leave out `data` or `--data`"):
        GaussianMixture(name="ring").load(Path(), lambda _: None)
