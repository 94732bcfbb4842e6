"""What is seen of an algorithm from its samples, on data whose state is known."""

import math

import pytest
import torch
from torch import Tensor

from latentd.training.clusters import Clusters
from latentd.training.collapse_probe import CollapseProbe
from latentd.training.data.points import MixtureSource
from latentd.training.data.source import Batch


def draw(count: int, seed: int) -> Tensor:
    samples, _ = next(MixtureSource("ring").draw(count, seed))
    return samples


def probe() -> CollapseProbe:
    return CollapseProbe(draw(1024, 0), Batch(draw(256, 1)), torch.Generator().manual_seed(0))


def undecided(batch: Batch) -> Tensor:
    return torch.zeros(len(batch.samples))


def test_clusters_are_where_the_data_is() -> None:
    real = draw(2000, 0)
    clusters = Clusters(real, 8, torch.Generator().manual_seed(0))
    assert clusters.shares.tolist() == pytest.approx([0.125] * 8, abs=0.03)
    one_mode = real[(real - torch.tensor([1.0, 0.0])).norm(dim=1) < 0.1]
    assert sorted(clusters.shares_of(one_mode).tolist()) == [0.0] * 7 + [1.0]


def test_real_samples_are_healthy() -> None:
    vitals = probe().look(Batch(draw(256, 2)), undecided)
    assert vitals.diversity > 0.95
    assert abs(vitals.distance) < 0.01
    assert vitals.certainty == 0.5


def test_lost_modes_cost_their_share_of_diversity() -> None:
    samples = draw(4000, 2)
    angles = torch.atan2(samples[:, 1], samples[:, 0])
    half = samples[(angles > -0.1) & (angles < math.pi - 0.1)][:256]
    assert probe().look(Batch(half), undecided).diversity == pytest.approx(0.5, abs=0.1)
    assert probe().look(Batch(samples[:1].expand(256, 2)), undecided).diversity <= 1 / 32


def test_samples_far_from_the_data_are_far() -> None:
    """A real one lies about 1.3 from another; these are 2 farther away than they should be."""
    vitals = probe().look(Batch(3.0 * draw(256, 2)), undecided)
    assert vitals.distance == pytest.approx(2.0 / 1.27, rel=0.05)


def test_movement_is_of_the_same_latents() -> None:
    watching = probe()
    samples = draw(256, 2)
    assert watching.look(Batch(samples), undecided).movement == 0.0
    assert watching.look(Batch(samples), undecided).movement == 0.0
    assert watching.look(Batch(-samples), undecided).movement == pytest.approx(2.0 / 1.27, rel=0.05)


def test_certainty_is_the_share_of_pairs_in_order() -> None:
    watching, fake = probe(), Batch(draw(256, 2))
    for logit_of_fakes, certainty in ((-1.0, 1.0), (1.0, 0.0), (0.0, 0.5)):
        vitals = watching.look(fake, lambda batch, logit=logit_of_fakes: torch.full((256,), logit * (batch is fake)))
        assert vitals.certainty == certainty
    assert watching.look(fake, lambda batch: None).certainty is None
