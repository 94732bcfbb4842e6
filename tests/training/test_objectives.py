"""Every objective against its formula, worked out by hand in plain Python."""

import math

import pytest
import torch

from training.objectives import OBJECTIVES, gradient_penalty

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
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses(name: str) -> None:
    discriminator_loss, generator_loss = EXPECTED[name]
    objective = OBJECTIVES[name]
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    assert objective.discriminator_loss(real, fake).item() == pytest.approx(discriminator_loss, rel=1e-6)
    assert objective.generator_loss(fake).item() == pytest.approx(generator_loss, rel=1e-6)


def test_constraints_belong_to_the_wasserstein_objectives_alone() -> None:
    assert OBJECTIVES["wasserstein"].clip == 0.01
    assert OBJECTIVES["wasserstein-gp"].penalty is gradient_penalty
    others = set(OBJECTIVES) - {"wasserstein", "wasserstein-gp"}
    assert all(OBJECTIVES[name].clip is None and OBJECTIVES[name].penalty is None for name in others)


def test_gradient_penalty_of_a_plane() -> None:
    slope = torch.tensor([3.0, 4.0], requires_grad=True)  # ‖∇‖ = 5 everywhere
    penalty = gradient_penalty(lambda x: x @ slope, torch.zeros(6, 2), torch.ones(6, 2))
    assert penalty.item() == pytest.approx(10 * (5 - 1) ** 2)
    penalty.backward()
    # d/ds 10 (‖s‖ - 1)² = 20 (‖s‖ - 1) s / ‖s‖
    assert slope.grad is not None
    assert slope.grad.tolist() == pytest.approx([20 * 4 * 0.6, 20 * 4 * 0.8])


def test_gradient_penalty_looks_between_real_and_fake() -> None:
    seen: list[torch.Tensor] = []

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x.flatten(1).sum(1)

    gradient_penalty(critic, torch.zeros(50, 1, 2, 2), torch.ones(50, 1, 2, 2))
    assert 0 <= seen[0].min() < 0.5 < seen[0].max() <= 1
    assert torch.equal(seen[0].flatten(1).std(1), torch.zeros(50))  # one share a sample
