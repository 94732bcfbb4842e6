"""Each metric against its definition in NumPy, or against a case worked out by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from latentd.training.evaluation import metrics

Features = NDArray[np.float64]


@pytest.fixture
def pair() -> tuple[Features, Features]:
    random = np.random.RandomState(0)
    return random.standard_normal((300, 12)), 0.8 * random.standard_normal((280, 12)) + 0.3


def tensors(pair: tuple[Features, Features]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(pair[0]), torch.from_numpy(pair[1])


def distances(x: Features, y: Features) -> Features:
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(axis=2))


def test_frechet_distance(pair: tuple[Features, Features]) -> None:
    x, y = pair
    covariances = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root_trace = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).astype(complex)).real.sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1]) - 2 * root_trace
    assert metrics.frechet_distance(*tensors(pair)) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_in_one_dimension() -> None:
    x = torch.tensor([[0.0], [2.0]])  # mean 1, standard deviation √2
    y = torch.tensor([[3.0], [7.0]])  # mean 5, standard deviation √8
    assert metrics.frechet_distance(x, y) == pytest.approx(16 + 2)
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_fewer_samples_than_features() -> None:
    few = torch.from_numpy(np.random.RandomState(0).standard_normal((8, 32)))
    assert metrics.frechet_distance(few, few) == pytest.approx(0, abs=1e-6)


def test_kernel_distance(pair: tuple[Features, Features]) -> None:
    x, y = pair[0][:280], pair[1]

    def kernel(a: Features, b: Features) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n = len(x)
    xx = sum(kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / (n * (n - 1))
    yy = sum(kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / (n * (n - 1))
    xy = sum(kernel(a, b) for a in x for b in y) / n**2
    found = metrics.kernel_distance(torch.from_numpy(x), torch.from_numpy(y), subsets=2, size=n)
    assert found == pytest.approx(xx + yy - 2 * xy, rel=1e-6)


def test_kernel_distance_of_the_same_distribution_is_near_zero() -> None:
    x, y = torch.randn(2, 2000, 8, generator=torch.Generator().manual_seed(0))
    assert abs(metrics.kernel_distance(x, y, subsets=20)) < 0.01
    assert metrics.kernel_distance(x, y + 1, subsets=20) > 0.1


def test_precision_and_recall(pair: tuple[Features, Features]) -> None:
    x, y = pair
    found = metrics.precision_recall(*tensors(pair))
    for (manifold, points), fraction in zip(((x, y), (y, x)), found, strict=True):
        radii = np.sort(distances(manifold, manifold), axis=1)[:, 3]
        assert fraction == pytest.approx((distances(points, manifold) <= radii).any(axis=1).mean(), rel=1e-6)


def test_density_and_coverage(pair: tuple[Features, Features]) -> None:
    x, y = pair
    radii = np.sort(distances(x, x), axis=1)[:, 5]
    within = distances(y, x) <= radii
    density, coverage = metrics.density_coverage(*tensors(pair))
    assert density == pytest.approx(within.sum() / (5 * len(y)), rel=1e-6)
    assert coverage.tolist() == within.any(axis=0).tolist()


def test_a_collapsed_generator_has_high_precision_and_low_coverage(pair: tuple[Features, Features]) -> None:
    real = torch.from_numpy(pair[0])
    collapsed = real[:1].repeat(200, 1) + 1e-6 * torch.arange(200)[:, None]
    precision, recall = metrics.precision_recall(real, collapsed)
    assert precision == 1.0
    assert recall < 0.05
    assert metrics.density_coverage(real, collapsed)[1].double().mean() < 0.1


def test_inception_score() -> None:
    certain = torch.eye(4).repeat(10, 1)
    assert metrics.inception_score(certain) == pytest.approx(4.0)
    assert metrics.inception_score(torch.full((10, 4), 0.25)) == pytest.approx(1.0)
    assert metrics.inception_score(torch.eye(4)[[0, 0, 1, 1]]) == pytest.approx(2.0)
    mixed = np.random.RandomState(0).dirichlet(np.ones(5), 50)
    expected = np.exp((mixed * np.log(mixed / mixed.mean(0))).sum(1).mean())
    assert metrics.inception_score(torch.from_numpy(mixed)) == pytest.approx(expected, rel=1e-6)


def test_nearest_neighbours(pair: tuple[Features, Features]) -> None:
    found, index = metrics.nearest(*tensors(pair))
    expected = distances(*pair)
    assert found.numpy() == pytest.approx(expected.min(axis=1), rel=1e-6)
    assert np.array_equal(index.numpy(), expected.argmin(axis=1))


def test_kl_divergence_and_class_fractions() -> None:
    assert metrics.class_fractions(torch.tensor([0, 0, 1, 3]), 4) == [0.5, 0.25, 0.0, 0.25]
    assert metrics.kl_divergence([0.25] * 4, [0.25] * 4) == pytest.approx(0.0)
    assert metrics.kl_divergence([1.0, 0.0, 0.0, 0.0], [0.25] * 4) == pytest.approx(np.log(4))
    assert metrics.kl_divergence([0.5, 0.25, 0.0, 0.25], [0.25] * 4) == pytest.approx(0.5 * np.log(2))
