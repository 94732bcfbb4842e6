"""Each objective against its formula in plain Python."""

import math

import pytest
import torch

from latentd.training.adversarial.objectives import OBJECTIVES

REAL = [2.0, -1.0]
FAKE = [0.5, -3.0]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


CROSS_ENTROPY = -mean([math.log(sigmoid(r)) for r in REAL]) - mean([math.log(1 - sigmoid(f)) for f in FAKE])

EXPECTED = {
    "minimax": (CROSS_ENTROPY, mean([math.log(1 - sigmoid(f)) for f in FAKE])),
    "non-saturating": (CROSS_ENTROPY, -mean([math.log(sigmoid(f)) for f in FAKE])),
    "least-squares": (0.5 * mean([1.0, 4.0]) + 0.5 * mean([0.25, 9.0]), 0.5 * mean([0.25, 16.0])),
    "wasserstein": (-1.25 - 0.5, 1.25),
    "wasserstein-gp": (-1.25 - 0.5, 1.25),
    "hinge": (mean([0.0, 2.0]) + mean([1.5, 0.0]), 1.25),
    "relativistic": (
        -mean([math.log(sigmoid(r - f)) for r, f in zip(REAL, FAKE, strict=True)]),
        -mean([math.log(sigmoid(f)) for f in FAKE]),
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_agree_with_their_formulas(name: str) -> None:
    discriminator_loss, generator_loss = EXPECTED[name]
    objective = OBJECTIVES[name]
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    assert objective.discriminator_loss(real, fake).item() == pytest.approx(discriminator_loss, rel=1e-6)
    assert objective.generator_loss(fake).item() == pytest.approx(generator_loss, rel=1e-6)


def test_only_wasserstein_objectives_have_constraints() -> None:
    assert OBJECTIVES["wasserstein"].clip == 0.01
    assert OBJECTIVES["wasserstein-gp"].penalties == {"gradient": 10.0}
    others = set(OBJECTIVES) - {"wasserstein", "wasserstein-gp"}
    assert all(OBJECTIVES[name].clip is None and not OBJECTIVES[name].penalties for name in others)


def test_label_smoothing() -> None:
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    on_real = -mean([0.9 * math.log(sigmoid(r)) + 0.1 * math.log(1 - sigmoid(r)) for r in REAL])
    on_fake = -mean([math.log(1 - sigmoid(f)) for f in FAKE])
    smoothed = OBJECTIVES["non-saturating"].smoothed(0.1)
    assert smoothed.discriminator_loss(real, fake).item() == pytest.approx(on_real + on_fake, rel=1e-6)
    least_squares = OBJECTIVES["least-squares"].smoothed(0.1).discriminator_loss(real, fake).item()
    assert least_squares == pytest.approx(0.5 * mean([1.1**2, 1.9**2]) + 0.5 * mean([0.25, 9.0]), rel=1e-6)
    assert OBJECTIVES["hinge"].smoothed(0.0) is OBJECTIVES["hinge"]
    with pytest.raises(ValueError, match="no labels to smooth"):
        OBJECTIVES["hinge"].smoothed(0.1)
