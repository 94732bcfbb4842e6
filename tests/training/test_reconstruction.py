"""Autoencoders, against a second computation in float64."""

from contextlib import nullcontext
from itertools import repeat
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from latentd.models.family import Encoder, Generator
from latentd.models.outputs import PointsOutput
from latentd.training.data.source import Batch
from latentd.training.ema import Ema
from latentd.training.loop import Losses, Trainable, TrainingDiverged, train
from latentd.training.reconstruction import (
    PlainAutoencoder,
    ReconstructionAlgorithm,
    VariationalAutoencoder,
    divergence,
    surprise,
    whitened,
)
from tests.conftest import spec_of

DIM = 3


class Scale(Generator):
    """gain · z: one parameter."""

    def __init__(self) -> None:
        super().__init__(spec_of("mlp", PointsOutput(dim=DIM)))
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z * self.gain


class Linear(Encoder):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(DIM, outputs)

    def forward(self, samples: Tensor) -> Tensor:
        outputs: Tensor = self.layer(samples)
        return outputs


def make_algorithm(autoencoder: Any, samples: Tensor, lr: float = 0.01, **rules: Any) -> ReconstructionAlgorithm:
    optimizer = torch.optim.SGD(autoencoder.parameters(), lr=lr)
    return ReconstructionAlgorithm(
        autoencoder=Trainable(autoencoder, optimizer, autoencoder, lr),
        ema=Ema(autoencoder.generator, 0.5),
        batches=repeat(Batch(samples)),
        draw_latents=lambda count, step, _: torch.randn(count, DIM, generator=torch.Generator().manual_seed(step)),
        seed=0,
        **rules,
    )


def variational(beta: float = 1.0) -> VariationalAutoencoder:
    torch.manual_seed(0)
    return VariationalAutoencoder(Linear(2 * DIM), Scale(), nullcontext, beta=beta)


def test_divergence_is_that_of_normal_distributions() -> None:
    mean, log_variance = torch.randn(5, DIM, dtype=torch.float64), torch.randn(5, DIM, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(torch.zeros_like(mean), 1.0)).sum(dim=1)
    assert torch.allclose(divergence(mean, log_variance), expected)


def test_surprise_is_that_of_the_likeliest_variance() -> None:
    samples, made = torch.randn(2, 7, 1, 2, 2, dtype=torch.float64)

    def at(variance: Tensor) -> float:
        return -Normal(made, variance.sqrt()).log_prob(samples).sum(dim=(1, 2, 3)).mean().item()

    best = (samples - made).square().mean()
    assert surprise(samples, made).item() == pytest.approx(at(best))
    assert at(best) < min(at(best * 1.01), at(best * 0.99))


def test_a_variational_step_descends_the_bound() -> None:
    """The bound worked out by torch.distributions, its gradient by differences."""
    samples, beta = torch.randn(8, DIM, generator=torch.Generator().manual_seed(5)), 2.0
    autoencoder = variational(beta)
    noise = torch.randn(8, DIM, generator=torch.Generator().manual_seed(1)).double()
    layer = nn.Linear(DIM, 2 * DIM).double()
    layer.load_state_dict(autoencoder.encoder.layer.state_dict())  # type: ignore[union-attr, operator]  # Linear

    def bound(gain: float) -> tuple[float, float]:
        mean, log_variance = layer(samples.double()).chunk(2, dim=1)
        posterior = Normal(mean, (log_variance / 2).exp())
        made = gain * (mean + posterior.stddev * noise)
        spread = (samples - made).square().mean().sqrt()
        likelihood = Normal(made, spread).log_prob(samples.double()).sum(dim=1).mean()
        prior = Normal(torch.zeros_like(mean), 1.0)
        return -likelihood.item(), beta * kl_divergence(posterior, prior).sum(dim=1).mean().item()

    heard: list[Losses] = []
    train(make_algorithm(autoencoder, samples), 1, lambda _, losses: heard.append(losses))
    reconstruction, weighed = bound(0.5)
    assert heard[0] == pytest.approx({"reconstruction": reconstruction, "divergence": weighed}, rel=1e-5)
    slope = (bound(0.5 + 1e-5)[0] - bound(0.5 - 1e-5)[0]) / 2e-5
    gain = autoencoder.generator.get_parameter("gain").item()
    assert gain == pytest.approx(0.5 - 0.01 * slope, rel=1e-4)


def test_whitened_codes_have_the_moments_of_normal_latents() -> None:
    codes = torch.randn(64, DIM, dtype=torch.float64) @ torch.randn(DIM, DIM, dtype=torch.float64) + 7
    white = whitened(codes)
    assert torch.allclose(white.mean(dim=0), torch.zeros(DIM, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(white.T @ white / 64, torch.eye(DIM, dtype=torch.float64), atol=0.05)
    fitted = torch.linalg.lstsq(white, codes - codes.mean(dim=0))
    assert torch.allclose(white @ fitted.solution, codes - codes.mean(dim=0))  # nothing of them is lost


def test_codes_that_cannot_be_whitened_end_the_run() -> None:
    algorithm = make_algorithm(PlainAutoencoder(Linear(DIM), Scale(), nullcontext), torch.full((8, DIM), torch.inf))
    with pytest.raises(TrainingDiverged, match=r"step 1: lower the learning rate \(lr\)"):
        train(algorithm, 1, lambda *_: None)


def test_a_plain_autoencoder_learns_the_identity_up_to_a_turn() -> None:
    """Whitened codes of standard normal samples are these, turned; the best gain is 1."""
    torch.manual_seed(0)
    samples = whitened(torch.randn(256, DIM))
    autoencoder = PlainAutoencoder(Linear(DIM), Turn(), nullcontext)
    heard: list[Losses] = []
    train(make_algorithm(autoencoder, samples, lr=0.1), 500, lambda _, losses: heard.append(losses))
    assert heard[0]["reconstruction"] > 0.5
    assert heard[-1]["reconstruction"] < 1e-3


class Turn(Scale):
    """A linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Linear(DIM, DIM, bias=False)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        turned: Tensor = self.turn(z)
        return turned * self.gain


def test_losses_are_of_all_microbatches() -> None:
    samples = torch.randn(8, DIM, generator=torch.Generator().manual_seed(5))
    heard: list[Losses] = []
    for parts in (1, 2):
        train(make_algorithm(variational(), samples, microbatches=parts), 1, lambda _, losses: heard.append(losses))
    assert heard[1]["divergence"] == pytest.approx(heard[0]["divergence"], rel=1e-5)
