"""Probe readings of samples whose diversity, distance and movement are known."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latentd.training.data.sets.points import MixtureSource
from latentd.training.run.clusters import Clusters
from latentd.training.run.collapse_probe import CollapseProbe
from latentd.training.run.directory import read_metrics
from tests.training.runs import run_config, train
from tests.training.test_idx import write_idx


def draw(count: int, seed: int) -> Tensor:
    samples, _ = next(MixtureSource("ring").draw(count, seed))
    return samples


def make_probe() -> CollapseProbe:
    return CollapseProbe(draw(1024, 0), draw(256, 1), torch.Generator().manual_seed(0))


UNDECIDED = torch.zeros(256)
"""Logits of a discriminator that cannot tell real from generated samples."""


def test_clusters_are_the_modes_of_the_data() -> None:
    real = draw(2000, 0)
    clusters = Clusters(real, 8, torch.Generator().manual_seed(0))
    assert clusters.real_fractions.tolist() == pytest.approx([0.125] * 8, abs=0.03)
    one_mode = real[(real - torch.tensor([1.0, 0.0])).norm(dim=1) < 0.1]
    assert sorted(clusters.fractions(one_mode).tolist()) == [0.0] * 7 + [1.0]


def test_real_samples_have_a_good_reading() -> None:
    reading = make_probe().read(draw(256, 2), UNDECIDED, UNDECIDED)
    assert reading.diversity > 0.95
    assert abs(reading.distance) < 0.01
    assert reading.discriminator_auc == 0.5


def test_diversity_is_the_fraction_of_modes_that_are_reached() -> None:
    samples = draw(4000, 2)
    angles = torch.atan2(samples[:, 1], samples[:, 0])
    half = samples[(angles > -0.1) & (angles < math.pi - 0.1)][:256]
    assert make_probe().read(half, UNDECIDED, UNDECIDED).diversity == pytest.approx(0.5, abs=0.1)
    assert make_probe().read(samples[:1].expand(256, 2), UNDECIDED, UNDECIDED).diversity <= 1 / 32


def test_distance_is_in_units_of_the_distance_between_real_samples() -> None:
    """Real samples are 1.27 apart on average; these are 2 farther from the data than real ones."""
    reading = make_probe().read(3.0 * draw(256, 2), UNDECIDED, UNDECIDED)
    assert reading.distance == pytest.approx(2.0 / 1.27, rel=0.05)


def test_movement_is_relative_to_the_last_reading() -> None:
    probe = make_probe()
    samples = draw(256, 2)
    assert probe.read(samples, UNDECIDED, UNDECIDED).movement == 0.0
    assert probe.read(samples, UNDECIDED, UNDECIDED).movement == 0.0
    assert probe.read(-samples, UNDECIDED, UNDECIDED).movement == pytest.approx(2.0 / 1.27, rel=0.05)


def test_the_auc_is_the_fraction_of_pairs_in_order() -> None:
    probe, fake = make_probe(), draw(256, 2)
    for fake_logit, auc in ((-1.0, 1.0), (1.0, 0.0), (0.0, 0.5)):
        assert probe.read(fake, UNDECIDED, torch.full((256,), fake_logit)).discriminator_auc == auc
    assert probe.read(fake, None, None).discriminator_auc is None


def test_readings_do_not_depend_on_how_many_samples_are_held_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path / "data", count=300)
    small = ("generator.config.hidden=[8]", "discriminator.config.hidden=[8]", "batch_size=8", "steps=1")

    def reading(name: str) -> dict[str, float]:
        train(run_config("mnist-mlp-gan", tmp_path / name, *small, data=tmp_path / "data"))
        (values,) = [line["vitals"] for line in read_metrics(tmp_path / name) if "vitals" in line]
        return dict(values)

    whole = reading("whole")
    monkeypatch.setattr("latentd.training.data.chunks._BYTES", 1)
    assert reading("in chunks") == pytest.approx(whole, abs=1e-4)
    assert set(whole) == {"diversity", "distance", "movement", "certainty"}
