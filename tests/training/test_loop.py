"""The algorithm box on networks small enough to work out by hand."""

from itertools import repeat

import pytest
import torch
from torch import Tensor, nn

from models.family import Discriminator, Generator
from models.outputs import PointsOutput
from tests.conftest import spec_of
from training.data.source import Batch
from training.ema import Ema
from training.loop import Game, Losses, TrainingDiverged, train
from training.objectives import OBJECTIVES, Objective

SPEC = spec_of("mlp", PointsOutput(dim=1))


class Shift(Generator):
    """z + shift: one parameter."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z + self.shift


class Slope(Discriminator):
    """slope * x: one parameter; remembers how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        return (samples * self.slope).squeeze(1)


def game_of(objective: Objective, discriminator_steps: int = 1, real: float = 3.0, lr: float = 0.1) -> Game:
    generator, discriminator = Shift(), Slope()
    return Game(
        generator=generator,
        discriminator=discriminator,
        generator_optimizer=torch.optim.SGD(generator.parameters(), lr=lr),
        discriminator_optimizer=torch.optim.SGD(discriminator.parameters(), lr=lr),
        objective=objective,
        discriminator_steps=discriminator_steps,
        ema=Ema(generator, 0.5),
        batches=repeat(Batch(torch.full((2, 1), real))),
        draw_latents=lambda count: torch.zeros(count, 1),
        device=torch.device("cpu"),
        seed=0,
    )


def test_one_round_by_hand() -> None:
    """D: slope += lr (real - fake) = 0.3; then G: shift += lr slope = 0.03, with D held still."""
    game = game_of(Objective(OBJECTIVES["wasserstein"].discriminator_loss, OBJECTIVES["wasserstein"].generator_loss))
    heard: list[tuple[int, Losses]] = []
    train(game, 1, lambda step, losses: heard.append((step, losses)))
    assert game.discriminator.slope.item() == pytest.approx(0.3)
    assert game.generator.shift.item() == pytest.approx(0.03)
    assert heard == [(1, Losses(0.0, 0.0))]


def test_discriminator_steps_come_before_each_generator_step() -> None:
    game = game_of(Objective(OBJECTIVES["wasserstein"].discriminator_loss, OBJECTIVES["wasserstein"].generator_loss), 5)
    train(game, 1, lambda *_: None)
    assert game.discriminator.slope.item() == pytest.approx(1.5)
    assert game.generator.shift.item() == pytest.approx(0.15)


def test_clipping_bounds_the_discriminator() -> None:
    game = game_of(OBJECTIVES["wasserstein"])
    train(game, 3, lambda *_: None)
    assert game.discriminator.slope.item() == pytest.approx(0.01)


def test_the_penalty_is_part_of_the_loss() -> None:
    """At slope 0 the gradient of 10 (|s| - 1)² is taken as 0 by torch, so one step goes to 0.3, the next feels it."""
    game = game_of(OBJECTIVES["wasserstein-gp"], 2, lr=0.01)
    train(game, 1, lambda *_: None)
    first = 0.01 * 3.0
    assert game.discriminator.slope.item() == pytest.approx(first + 0.01 * (3.0 - 20 * (first - 1)), rel=1e-5)


def test_a_loss_that_is_not_finite_stops_and_leaves_the_average_alone() -> None:
    game = game_of(OBJECTIVES["least-squares"], real=1e30)
    with pytest.raises(TrainingDiverged, match=r"step 2 .*lower the learning rates"):
        train(game, 10, lambda *_: None)
    assert game.ema.generator.shift.isfinite()


def test_ema_ramps_up_to_its_decay() -> None:
    generator = Shift()
    ema = Ema(generator, 0.5)
    with torch.no_grad():
        generator.shift.fill_(1.0)
    expected = 0.0
    for update in range(20):
        ema.update(generator)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay)
        assert ema.generator.shift.item() == pytest.approx(expected)
    assert not ema.generator.training
