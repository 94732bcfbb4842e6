"""Each penalty against a case worked out by hand."""

import pytest
import torch
from torch import Tensor

from latentd.training.adversarial.penalties import Penalty, consistency, gradient_penalty, r1, r2


def test_gradient_penalty_of_a_plane() -> None:
    slope = torch.tensor([3.0, 4.0], requires_grad=True)  # ‖∇‖ = 5 everywhere
    penalty = gradient_penalty(lambda x: x @ slope, torch.zeros(6, 2), torch.ones(6, 2)) * 10
    assert penalty.item() == pytest.approx(10 * (5 - 1) ** 2)
    penalty.backward()
    # d/ds 10 (‖s‖ - 1)² = 20 (‖s‖ - 1) s / ‖s‖
    assert slope.grad is not None
    assert slope.grad.tolist() == pytest.approx([20 * 4 * 0.6, 20 * 4 * 0.8])


def test_the_gradient_penalty_is_at_points_between_real_and_fake() -> None:
    seen: list[torch.Tensor] = []

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x.flatten(1).sum(1)

    gradient_penalty(critic, torch.zeros(50, 1, 2, 2), torch.ones(50, 1, 2, 2))
    assert 0 <= seen[0].min() < 0.5 < seen[0].max() <= 1
    assert torch.equal(seen[0].flatten(1).std(1), torch.zeros(50))  # one number for each sample


def square(x: Tensor) -> Tensor:
    """D(x) = ‖x‖², so ∇D(x) = 2x."""
    return x.flatten(1).square().sum(1)


def test_r1_is_at_real_samples_and_r2_at_fakes() -> None:
    real, fake = torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert r1(square, real, fake).item() == pytest.approx(0.5 * (4 * 5 + 4 * 9) / 2)
    assert r2(square, real, fake).item() == pytest.approx(0.5 * (4 * 1 + 0) / 2)


def test_r1_has_a_gradient_for_the_discriminator() -> None:
    """For D(x) = s·x, R1 is ½ ‖s‖², and its gradient is s."""
    slope = torch.tensor([3.0, 4.0], requires_grad=True)
    r1(lambda x: x @ slope, torch.zeros(6, 2), torch.ones(6, 2)).backward()
    assert slope.grad is not None
    assert slope.grad.tolist() == pytest.approx([3.0, 4.0])


def test_a_penalty_every_4_updates_weighs_4_times_as_much() -> None:
    penalty = Penalty(lambda critic, real, fake: torch.tensor(2.0), weight=0.5, every=4)
    assert [update for update in range(10) if penalty.is_due(update)] == [0, 4, 8]
    assert penalty(square, torch.zeros(1), torch.zeros(1)).item() == 0.5 * 4 * 2.0


def test_consistency_is_the_change_of_logits_when_images_are_moved() -> None:
    torch.manual_seed(0)
    images = torch.zeros(64, 1, 8, 8)
    images[:, :, 4, 4] = 1.0

    def middle(x: Tensor) -> Tensor:
        return x[:, 0, 4, 4]

    penalty = consistency(middle, images, images).item()
    assert penalty * 64 == pytest.approx(round(penalty * 64))  # each image was moved (1) or not (0)
    assert 0 < penalty < 1
    assert consistency(lambda x: x.sum(dim=(1, 2, 3)), images, images).item() == 0.0  # moving does not change the sum
