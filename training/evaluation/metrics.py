"""The figures by which generators are judged: arithmetic on features [N, values] in float64, and nothing else.

Real samples are always the first argument. Every function that compares sets can be given any two: of two real sets it
gives the floor under which no generator can honestly fall.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_ROWS = 1024
"""Of a distance matrix that are in memory at once."""


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """‖μ - μ'‖² + tr(Σ + Σ' - 2 (Σ Σ')^½) of normal distributions fitted to both.

    Heusel et al. 2017, https://arxiv.org/abs/1706.08500, eq. 6; on Inception features it is called FID.
    """
    (mean, covariance), (other_mean, other_covariance) = _moments(real), _moments(fake)
    root = _square_root(covariance)
    # (Σ Σ')^½ has the trace of (Σ^½ Σ' Σ^½)^½, which is symmetric
    between = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp(min=0).sqrt().sum()
    distance = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * between
    return max(float(distance), 0.0)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    values = features.double()
    return values.mean(dim=0), torch.cov(values.T).reshape(values.shape[1], values.shape[1])


def _square_root(symmetric: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(symmetric)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root


def kernel_distance(real: Tensor, fake: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0) -> float:
    """Unbiased squared MMD with the kernel (x·y / d + 1)³, averaged over random subsets.

    Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401, section 3; on Inception features it is called KID. Near
    zero it can be negative.
    """
    size = min(size, len(real), len(fake))
    random = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(subsets):
        x, y = (each[torch.randperm(len(each), generator=random)[:size]].double() for each in (real, fake))
        xx, yy, xy = _cubic(x, x), _cubic(y, y), _cubic(x, y)
        within = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (size * (size - 1))
        total += float(within - 2 * xy.mean())
    return total / subsets


def _cubic(x: Tensor, y: Tensor) -> Tensor:
    linear = (x @ y.T).div_(x.shape[1]).add_(1)
    return linear.square().mul_(linear)


def precision_recall(real: Tensor, fake: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Share of fakes that lie within the real samples' manifold, and of real samples within the fakes'.

    Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, eq. 1 and 2: a manifold is the union of balls around the
    samples, as large as reaches the third neighbour.
    """
    return _share_within(real, fake, neighbours), _share_within(fake, real, neighbours)


def _share_within(manifold: Tensor, points: Tensor, neighbours: int) -> float:
    radii = _neighbour_distances(manifold, neighbours)
    inside = [(distances <= radii).any(dim=1) for distances in _distances(points, manifold)]
    return float(torch.cat(inside).double().mean())


def density_coverage(real: Tensor, fake: Tensor, neighbours: int = 5) -> tuple[float, Tensor]:
    """How many real samples' balls a fake lies in, over the expected number; of each real ball [N], if it holds a fake.

    The share of the latter is the coverage. Naeem et al. 2020, https://arxiv.org/abs/2002.09797, eq. 4 and 5.
    """
    radii = _neighbour_distances(real, neighbours)
    balls = torch.zeros(len(real), dtype=torch.float64)
    for distances in _distances(fake, real):
        balls += (distances <= radii).double().sum(dim=0)
    return float(balls.sum() / (neighbours * len(fake))), balls > 0


def nearest(points: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """For each of the points the distance to the nearest `among` those, and its index: each [N]."""
    found = [distances.min(dim=1) for distances in _distances(points, among)]
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])


def _neighbour_distances(points: Tensor, neighbours: int) -> Tensor:
    """Each point's distance to its neighbour of that rank, not counting itself: [N]."""
    ranked = [distances.kthvalue(neighbours + 1, dim=1).values for distances in _distances(points, points)]
    return torch.cat(ranked)


def _distances(points: Tensor, others: Tensor) -> Iterator[Tensor]:
    """Euclidean distances, some rows of points after another: [rows, others]."""
    others = others.double()
    for rows in torch.split(points.double(), _ROWS):
        yield torch.cdist(rows, others, compute_mode="use_mm_for_euclid_dist")


def inception_score(probabilities: Tensor) -> float:
    """exp E KL(p(y|x) ‖ p(y)) of a classifier's answers [N, classes] (Salimans et al. 2016, section 4).

    https://arxiv.org/abs/1606.03498
    """
    each = probabilities.double()
    divergence = torch.xlogy(each, each) - torch.xlogy(each, each.mean(dim=0))
    return float(divergence.sum(dim=1).mean().exp())


def shares(classes: Tensor, count: int) -> list[float]:
    """How much of all belongs to each of `count` classes."""
    return [float(share) for share in torch.bincount(classes, minlength=count).double() / len(classes)]


def reverse_kl(found: Sequence[float], expected: Sequence[float]) -> float:
    """KL(found ‖ expected) of shares, in nats (of modes: PacGAN, https://arxiv.org/abs/1712.04086, section 4.1)."""
    shares_of, wanted = (torch.tensor(each, dtype=torch.float64) for each in (found, expected))
    return float(torch.special.xlogy(shares_of, shares_of / wanted).sum())
