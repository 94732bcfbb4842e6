"""The arithmetic of metrics, in float64.

`real` is always the first argument. Given two sets of real samples, a metric returns its real-data baseline: no
generator can honestly be better.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_ROWS = 1024
"""Rows of a distance matrix held in memory at once."""


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Return the Fréchet distance of Gaussians fitted to features [N, values] and [M, values].

    ‖μ - μ'‖² + tr(Σ + Σ' - 2 (Σ Σ')^½): Heusel et al. 2017, https://arxiv.org/abs/1706.08500, eq. 6. On Inception
    features it is the FID.
    """
    (mean, covariance), (other_mean, other_covariance) = _mean_and_covariance(real), _mean_and_covariance(fake)
    root = _square_root(covariance)
    # (Σ Σ')^½ has the trace of (Σ^½ Σ' Σ^½)^½, which is symmetric
    cross_trace = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp(min=0).sqrt().sum()
    distance = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * cross_trace
    return max(float(distance), 0.0)


def _mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    values = features.double()
    return values.mean(dim=0), torch.cov(values.T).reshape(values.shape[1], values.shape[1])


def _square_root(symmetric: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(symmetric)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root


def kernel_distance(real: Tensor, fake: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0) -> float:
    """Return the unbiased squared MMD with the kernel (x·y / d + 1)³, averaged over random subsets of `size` samples.

    Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401, section 3. On Inception features it is the KID. It can be
    negative near zero.
    """
    size = min(size, len(real), len(fake))
    random = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(subsets):
        x, y = (each[torch.randperm(len(each), generator=random)[:size]].double() for each in (real, fake))
        xx, yy, xy = _cubic_kernel(x, x), _cubic_kernel(y, y), _cubic_kernel(x, y)
        within = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (size * (size - 1))
        total += float(within - 2 * xy.mean())
    return total / subsets


def _cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    linear = (x @ y.T).div_(x.shape[1]).add_(1)
    return linear.square().mul_(linear)


def precision_recall(real: Tensor, fake: Tensor, neighbors: int = 3) -> tuple[float, float]:
    """Return the fraction of fakes in the manifold of real samples, and of real samples in the manifold of fakes.

    A manifold is the union of balls around the samples; a ball reaches to its sample's third neighbor.
    Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, eq. 1 and 2.
    """
    return _fraction_inside(real, fake, neighbors), _fraction_inside(fake, real, neighbors)


def _fraction_inside(manifold: Tensor, points: Tensor, neighbors: int) -> float:
    radii = _neighbour_distances(manifold, neighbors)
    inside = [(distances <= radii).any(dim=1) for distances in _distances(points, manifold)]
    return float(torch.cat(inside).double().mean())


def density_coverage(real: Tensor, fake: Tensor, neighbors: int = 5) -> tuple[float, Tensor]:
    """Return the density, and whether each real sample's ball contains a fake [N]; the mean of that is the coverage.

    Density: the number of real samples' balls that contain a fake, divided by the expected number. Naeem et al. 2020,
    https://arxiv.org/abs/2002.09797, eq. 4 and 5.
    """
    radii = _neighbour_distances(real, neighbors)
    fakes_inside = torch.zeros(len(real), dtype=torch.float64)
    for distances in _distances(fake, real):
        fakes_inside += (distances <= radii).double().sum(dim=0)
    return float(fakes_inside.sum() / (neighbors * len(fake))), fakes_inside > 0


def nearest(points: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Return each point's distance to the nearest candidate [N], and that candidate's index [N]."""
    found = [distances.min(dim=1) for distances in _distances(points, candidates)]
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])


def _neighbour_distances(points: Tensor, neighbors: int) -> Tensor:
    """Return each point's distance to its k-th nearest other point: [N]."""
    ranked = [distances.kthvalue(neighbors + 1, dim=1).values for distances in _distances(points, points)]
    return torch.cat(ranked)


def _distances(points: Tensor, others: Tensor) -> Iterator[Tensor]:
    """Yield the matrix of Euclidean distances in blocks [rows, others]."""
    others = others.double()
    for rows in torch.split(points, _ROWS):
        yield torch.cdist(rows.double(), others, compute_mode="use_mm_for_euclid_dist")


def inception_score(probabilities: Tensor) -> float:
    """Return exp E KL(p(y|x) ‖ p(y)) of class probabilities [N, classes].

    Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 4.
    """
    each = probabilities.double()
    divergence = torch.xlogy(each, each) - torch.xlogy(each, each.mean(dim=0))
    return float(divergence.sum(dim=1).mean().exp())


def class_fractions(classes: Tensor, count: int) -> list[float]:
    """Return the fraction of samples in each of `count` classes. `classes` [N] are indices."""
    return [float(fraction) for fraction in torch.bincount(classes, minlength=count).double() / len(classes)]


def kl_divergence(found: Sequence[float], expected: Sequence[float]) -> float:
    """Return KL(found ‖ expected) of two discrete distributions, in nats.

    For modes it is the reverse KL of PacGAN, https://arxiv.org/abs/1712.04086, section 4.1.
    """
    p, q = (torch.tensor(each, dtype=torch.float64) for each in (found, expected))
    return float(torch.special.xlogy(p, p / q).sum())
