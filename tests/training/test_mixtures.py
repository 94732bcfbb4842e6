"""Mixtures against what the literature says of them."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from latentd.training.data import GaussianMixture
from latentd.training.data.source import DataError, DataSource
from latentd.training.evaluation.evaluator import EvaluationSet, MixtureEvaluator


def mixture(name: str) -> DataSource:
    return GaussianMixture(name=name).load(None, lambda _: None)


@pytest.mark.parametrize(("name", "modes"), [("gaussian", 1), ("ring", 8), ("grid", 25)])
def test_a_mixture_judges_itself_as_the_theory_says(name: str, modes: int) -> None:
    evaluator = GaussianMixture(name=name).evaluator(None, lambda _: None)
    drawn = [samples for samples, _ in islice(mixture(name).draw(2500, 0), 4)]
    for judged in (*map(EvaluationSet, drawn), evaluator.real_samples(0), evaluator.real_samples(1)):
        figures = evaluator.metrics(judged)
        assert figures["modes"] == modes
        assert figures["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=0.01)  # within 3σ in two dimensions
        assert figures["reverse_kl"] < 0.02
        assert 0.8 < figures["least_spread"] <= 1.02
        assert 0.98 < figures["most_spread"] < 1.2
        assert figures["frechet_distance"] < 0.05


def test_spread_is_of_each_mode() -> None:
    centers = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
    evaluator = MixtureEvaluator(centers, 1.0)
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    samples = torch.cat([0.5 * noise, centers[1] + noise])
    figures = evaluator.metrics(EvaluationSet(samples))
    assert figures["least_spread"] == pytest.approx(0.5 / 0.9744, abs=0.01)
    assert figures["most_spread"] == pytest.approx(1.0, abs=0.01)


def test_collapse_is_seen() -> None:
    evaluator = GaussianMixture(name="ring").evaluator(None, lambda _: None)
    one_point = torch.tensor([[1.0, 0.0]]).repeat(2500, 1)

    def modes() -> float:
        return evaluator.metrics(EvaluationSet(one_point))["modes"]

    figures = evaluator.metrics(EvaluationSet(one_point))
    assert (figures["modes"], figures["high_quality"]) == (1.0, 1.0)
    assert figures["reverse_kl"] == pytest.approx(np.log(8))
    assert figures["most_spread"] == 0.0
    one_point[:19] = torch.tensor([0.0, 1.0])  # nineteen samples do not make a mode
    assert modes() == 1.0
    one_point[19] = torch.tensor([0.0, 1.0])
    assert modes() == 2.0
    assert evaluator.metrics(EvaluationSet(torch.full((2500, 2), 50.0)))["modes"] == 0.0


def test_mixtures_are_where_the_literature_has_them() -> None:
    ring, _ = next(mixture("ring").draw(20000, 0))
    assert ring.norm(dim=1).mean().item() == pytest.approx(1.0, abs=1e-3)
    grid, _ = next(mixture("grid").draw(20000, 0))
    assert sorted({round(value) for value in grid.flatten().tolist()}) == [-4, -2, 0, 2, 4]
    with pytest.raises(DataError, match="leave --data away"):
        GaussianMixture(name="ring").load(Path(), lambda _: None)
