"""A normal distribution fitted to samples: the generator's samples have the same mean and covariance."""

from pathlib import Path

import numpy as np
import pytest

from latentd.models.latents import seeds_to_rows
from latentd.models.sampling import generate_rows
from latentd.training.data.idx import load_idx_set
from tests.training.runs import run_config, train
from tests.training.test_idx import write_idx

RING = """
description = ""
objective = "gaussian"
steps = 20
batch_size = 1000
data = { name = "ring" }
generator = { family = "linear", latent = { dim = 2 } }
"""
SMALL = ("steps=4", "batch_size=10", "generator.latent.dim=30")


def test_samples_have_the_mean_and_covariance_of_the_data(tmp_path: Path) -> None:
    """Those of the ring in closed form: E[cos²] = E[sin²] = ½, plus the variance 0.01² of each mode."""
    (tmp_path / "ring.toml").write_text(RING)
    checkpoint = train(run_config(str(tmp_path / "ring.toml"), tmp_path))
    samples = generate_rows(checkpoint.build(), seeds_to_rows(checkpoint.card.spec, range(4000)))
    assert samples.mean(axis=0) == pytest.approx([0.0, 0.0], abs=0.05)
    assert np.cov(samples.T) == pytest.approx(np.eye(2) / 2, abs=0.05)


def test_an_epoch_gives_the_exact_moments_of_the_data(tmp_path: Path) -> None:
    """The mean and the largest principal components agree with NumPy's, for any number of steps and microbatches."""
    write_idx(tmp_path / "data", count=43)  # three of them are held out
    images = load_idx_set("fashion-mnist", tmp_path / "data", lambda _: None).images[:40]
    values = images.reshape(40, -1) / 127.5 - 1
    _, spreads, directions = np.linalg.svd((values - values.mean(axis=0)) / np.sqrt(40))
    expected = (directions[:30].T * spreads[:30] ** 2) @ directions[:30]
    for folder, *settings in (("a",), ("b", "microbatches=5"), ("c", "batch_size=40", "steps=1")):
        config = run_config("fashion-gaussian", tmp_path / folder, *SMALL, *settings, data=tmp_path / "data")
        weights = train(config).tensors
        assert weights["layer.bias"].numpy() == pytest.approx(values.mean(axis=0), abs=1e-6)
        assert (weights["layer.weight"] @ weights["layer.weight"].T).numpy() == pytest.approx(expected, abs=1e-5)
