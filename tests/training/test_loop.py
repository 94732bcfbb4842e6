"""Adversarial training on networks with one parameter, against values worked out by hand."""

import math
from dataclasses import replace
from itertools import repeat
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latentd.models.family import Discriminator, Generator
from latentd.models.outputs.points import PointsOutput
from latentd.training.adversarial.objectives import OBJECTIVES, Objective
from latentd.training.adversarial.penalties import PENALTIES, Penalty
from latentd.training.algorithms.base import Losses, Trainable, TrainingDiverged
from latentd.training.algorithms.gan import GanAlgorithm
from latentd.training.data.source import Batch
from latentd.training.ema import Ema
from latentd.training.loop import train
from latentd.training.schedule import linear_fade
from tests.conftest import spec_of

SPEC = spec_of("mlp", PointsOutput(dim=1))


class Shift(Generator):
    """z + shift: one parameter."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z + self.shift


class Slope(Discriminator):
    """slope * x: one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        return (samples * self.slope).squeeze(1)


def with_sgd(network: Any, lr: float) -> Trainable[Any]:
    return Trainable(network, torch.optim.SGD(network.parameters(), lr=lr), network, lr)


def make_algorithm(objective: Objective, real: float = 3.0, lr: float = 0.1, **settings: Any) -> GanAlgorithm:
    generator = Shift()
    return GanAlgorithm(
        generator=with_sgd(generator, lr),
        discriminator=with_sgd(Slope(), lr),
        objective=objective,
        ema=Ema(generator, 0.5),
        batches=repeat(Batch(torch.full((4, 1), real))),
        draw_latents=lambda count, *_: torch.zeros(count, 1),
        seed=0,
        **settings,
    )


def slope(algorithm: GanAlgorithm) -> float:
    return float(algorithm.discriminator.network.slope.item())


def shift(algorithm: GanAlgorithm) -> float:
    return float(algorithm.generator.network.shift.item())


WASSERSTEIN = replace(OBJECTIVES["wasserstein"], clip=None)


def test_one_step_by_hand() -> None:
    """D: slope += lr (real - fake) = 0.3. Then G: shift += lr slope = 0.03, with D unchanged."""
    algorithm = make_algorithm(WASSERSTEIN)
    reported: list[tuple[int, Losses]] = []
    train(algorithm, 1, lambda step, losses: reported.append((step, losses)))
    assert slope(algorithm) == pytest.approx(0.3)
    assert shift(algorithm) == pytest.approx(0.03)
    assert reported == [(1, {"discriminator": 0.0, "generator": 0.0})]


def test_the_discriminator_is_updated_several_times_before_the_generator() -> None:
    algorithm = make_algorithm(WASSERSTEIN, discriminator_steps=5)
    train(algorithm, 1, lambda *_: None)
    assert slope(algorithm) == pytest.approx(1.5)
    assert shift(algorithm) == pytest.approx(0.15)


def test_the_wasserstein_objective_clips_the_discriminator() -> None:
    algorithm = make_algorithm(OBJECTIVES["wasserstein"])
    train(algorithm, 3, lambda *_: None)
    assert slope(algorithm) == pytest.approx(0.01)


def test_a_penalty_is_added_to_the_loss() -> None:
    """At slope 0 torch takes the gradient of 10 (|s| - 1)² as 0, so the penalty changes the second update alone."""
    algorithm = make_algorithm(
        WASSERSTEIN, lr=0.01, discriminator_steps=2, penalties=[Penalty(PENALTIES["gradient"], 10.0)]
    )
    train(algorithm, 1, lambda *_: None)
    first = 0.01 * 3.0
    assert slope(algorithm) == pytest.approx(first + 0.01 * (3.0 - 20 * (first - 1)), rel=1e-5)


def test_a_lazy_penalty_is_computed_in_every_second_update_with_twice_the_weight() -> None:
    """R1 of a plane with slope s is γ s²/2, and its gradient γ s. It is due in steps 1 and 3, with the weight 2 γ."""
    algorithm = make_algorithm(WASSERSTEIN, lr=0.01, penalties=[Penalty(PENALTIES["r1"], 5.0, every=2)])
    expected, moved = 0.0, 0.0
    for step in range(1, 5):
        train(algorithm, step, lambda *_: None, steps_done=step - 1)
        due = step % 2 == 1
        expected, moved = (
            expected + 0.01 * (3.0 - moved - (10.0 * expected if due else 0.0)),
            moved + 0.01 * (expected + 0.01 * (3.0 - moved - (10.0 * expected if due else 0.0))),
        )
        assert slope(algorithm) == pytest.approx(expected, rel=1e-5)


def test_relativistic_losses_depend_on_differences_of_pairs() -> None:
    """At slope 0 both losses are log 2; D's gradient is -½ (real - fake), G's -½ slope."""
    algorithm = make_algorithm(OBJECTIVES["relativistic"])
    reported: list[Losses] = []
    train(algorithm, 1, lambda _, losses: reported.append(losses))
    assert slope(algorithm) == pytest.approx(0.1 * 0.5 * 3.0)
    difference = 0.15 * (0.0 - 3.0)  # D(fake) - D(real)
    sigmoid = 1 / (1 + math.exp(difference))
    assert shift(algorithm) == pytest.approx(0.1 * sigmoid * 0.15)
    assert reported[0]["generator"] == pytest.approx(math.log(1 + math.exp(-difference)))


@pytest.mark.parametrize("name", ["non-saturating", "relativistic", "wasserstein"])
def test_microbatches_give_the_gradient_of_the_whole_batch(name: str) -> None:
    batches = [Batch(torch.tensor([[1.0], [2.0], [-3.0], [4.0]]) * number) for number in (1, 2, 3)]
    results = []
    for parts in (1, 2, 4):
        algorithm = make_algorithm(OBJECTIVES[name], microbatches=parts, penalties=[Penalty(PENALTIES["r2"], 1.0)])
        algorithm.batches = iter(batches)
        algorithm.draw_latents = lambda count, step, _: torch.arange(float(count))[:, None] * step
        train(algorithm, 3, lambda *_: None)
        results.append((slope(algorithm), shift(algorithm)))
    assert results[1] == pytest.approx(results[0], rel=1e-5)
    assert results[2] == pytest.approx(results[0], rel=1e-5)


class FirstOfTwo(Slope):
    """Looks at the first of two packed samples alone."""

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        assert samples.shape == (2, 2)
        return super().forward(samples[:, :1])


def test_packed_samples_are_judged_together() -> None:
    algorithm = make_algorithm(WASSERSTEIN, packing=2)
    algorithm.discriminator = with_sgd(FirstOfTwo(), 0.1)
    algorithm.batches = repeat(Batch(torch.tensor([[1.0], [9.0], [3.0], [9.0]])))
    train(algorithm, 1, lambda *_: None)
    assert slope(algorithm) == pytest.approx(0.1 * 2.0)  # the mean of 1 and 3


def test_learning_rates_follow_the_schedule() -> None:
    algorithm = make_algorithm(WASSERSTEIN, schedule=lambda step: {1: 0.5, 2: 0.0}[step])
    train(algorithm, 1, lambda *_: None)
    assert slope(algorithm) == pytest.approx(0.15)
    train(algorithm, 2, lambda *_: None, steps_done=1)
    assert slope(algorithm) == pytest.approx(0.15)


class RecordingSlope(Slope):
    """Remembers the samples that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        self.shown.append(samples.detach().clone())
        return super().forward(samples)


def test_instance_noise_is_on_all_samples_and_fades() -> None:
    algorithm = make_algorithm(OBJECTIVES["non-saturating"], real=0.0, lr=0.0, noise=linear_fade(10, 2.0, 0.5))
    algorithm.batches = repeat(Batch(torch.zeros(20_000, 1)))
    critic = RecordingSlope()
    algorithm.discriminator = with_sgd(critic, 0.0)
    deviations = {}

    def note(step: int, _: Losses) -> None:
        deviations[step] = [float(samples.std()) for samples in critic.shown]
        critic.shown.clear()

    train(algorithm, 6, note)
    for step in (1, 2, 3, 4, 5):
        assert deviations[step] == pytest.approx([2.0 * (1 - (step - 1) / 5)] * 3, rel=0.03)  # real, fake, fake again
    assert deviations[6] == [0.0] * 3


def test_training_stops_after_the_step_in_which_it_is_asked_to() -> None:
    algorithm = make_algorithm(WASSERSTEIN)
    assert train(algorithm, 5, lambda *_: None, should_stop=lambda: algorithm.ema.updates == 2) == 2


def test_a_loss_that_is_not_finite_ends_training_before_the_average_is_updated() -> None:
    algorithm = make_algorithm(OBJECTIVES["least-squares"], real=1e30)
    with pytest.raises(TrainingDiverged, match=r"step 2: lower the learning rates"):
        train(algorithm, 10, lambda *_: None)
    average = algorithm.ema.generator
    assert isinstance(average, Shift)
    assert average.shift.isfinite()


def test_the_decay_of_the_average_rises_to_its_final_value() -> None:
    generator = Shift()
    ema = Ema(generator, 0.5)
    with torch.no_grad():
        generator.shift.fill_(1.0)
    expected = 0.0
    for update in range(20):
        ema.update()
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay)
        assert ema.generator.get_parameter("shift").item() == pytest.approx(expected)
    assert not ema.generator.training
