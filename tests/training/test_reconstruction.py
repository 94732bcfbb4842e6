"""Autoencoders, against torch.distributions and a second computation in float64."""

from contextlib import nullcontext
from itertools import repeat
from typing import Any

import pytest
import torch
from torch import Tensor, distributions, nn
from torch.distributions import Normal

from latentd.models.family import Encoder, Generator
from latentd.models.outputs.points import PointsOutput
from latentd.training.algorithms.autoencoder import (
    PlainAutoencoder,
    ReconstructionAlgorithm,
    VariationalAutoencoder,
    kl_divergence,
    negative_log_likelihood,
    whiten,
)
from latentd.training.algorithms.base import Losses, Trainable, TrainingDiverged
from latentd.training.data.source import Batch
from latentd.training.ema import Ema
from latentd.training.loop import train
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


def make_algorithm(autoencoder: Any, samples: Tensor, lr: float = 0.01, **settings: Any) -> ReconstructionAlgorithm:
    optimizer = torch.optim.SGD(autoencoder.parameters(), lr=lr)
    return ReconstructionAlgorithm(
        autoencoder=Trainable(autoencoder, optimizer, autoencoder, lr),
        ema=Ema(autoencoder.generator, 0.5),
        batches=repeat(Batch(samples)),
        draw_latents=lambda count, step, _: torch.randn(count, DIM, generator=torch.Generator().manual_seed(step)),
        seed=0,
        **settings,
    )


def variational(beta: float = 1.0) -> VariationalAutoencoder:
    torch.manual_seed(0)
    return VariationalAutoencoder(Linear(2 * DIM), Scale(), nullcontext, beta=beta)


def test_kl_divergence_agrees_with_torch() -> None:
    mean, log_variance = torch.randn(5, DIM, dtype=torch.float64), torch.randn(5, DIM, dtype=torch.float64)
    expected = distributions.kl_divergence(
        Normal(mean, (log_variance / 2).exp()), Normal(torch.zeros_like(mean), 1.0)
    ).sum(dim=1)
    assert torch.allclose(kl_divergence(mean, log_variance), expected)


def test_negative_log_likelihood_has_the_maximum_likelihood_variance() -> None:
    samples, made = torch.randn(2, 7, 1, 2, 2, dtype=torch.float64)

    def at(variance: Tensor) -> float:
        return -Normal(made, variance.sqrt()).log_prob(samples).sum(dim=(1, 2, 3)).mean().item()

    best = (samples - made).square().mean()
    assert negative_log_likelihood(samples, made).item() == pytest.approx(at(best))
    assert at(best) < min(at(best * 1.01), at(best * 0.99))


def test_a_variational_step_descends_the_elbo() -> None:
    """The ELBO is computed by torch.distributions, and its gradient by finite differences."""
    samples, beta = torch.randn(8, DIM, generator=torch.Generator().manual_seed(5)), 2.0
    autoencoder = variational(beta)
    noise = torch.randn(8, DIM, generator=torch.Generator().manual_seed(1)).double()
    layer = nn.Linear(DIM, 2 * DIM).double()
    layer.load_state_dict(autoencoder.encoder.layer.state_dict())  # type: ignore[union-attr, operator]  # Linear

    def elbo(gain: float) -> tuple[float, float]:
        mean, log_variance = layer(samples.double()).chunk(2, dim=1)
        posterior = Normal(mean, (log_variance / 2).exp())
        made = gain * (mean + posterior.stddev * noise)
        spread = (samples - made).square().mean().sqrt()
        likelihood = Normal(made, spread).log_prob(samples.double()).sum(dim=1).mean()
        prior = Normal(torch.zeros_like(mean), 1.0)
        return -likelihood.item(), beta * distributions.kl_divergence(posterior, prior).sum(dim=1).mean().item()

    reported: list[Losses] = []
    train(make_algorithm(autoencoder, samples), 1, lambda _, losses: reported.append(losses))
    reconstruction, weighed = elbo(0.5)
    assert reported[0] == pytest.approx({"reconstruction": reconstruction, "divergence": weighed}, rel=1e-5)
    slope = (elbo(0.5 + 1e-5)[0] - elbo(0.5 - 1e-5)[0]) / 2e-5
    gain = autoencoder.generator.get_parameter("gain").item()
    assert gain == pytest.approx(0.5 - 0.01 * slope, rel=1e-4)


def test_whitened_codes_have_mean_zero_and_identity_covariance() -> None:
    codes = torch.randn(64, DIM, dtype=torch.float64) @ torch.randn(DIM, DIM, dtype=torch.float64) + 7
    white = whiten(codes)
    assert torch.allclose(white.mean(dim=0), torch.zeros(DIM, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(white.T @ white / 64, torch.eye(DIM, dtype=torch.float64), atol=0.05)
    fitted = torch.linalg.lstsq(white, codes - codes.mean(dim=0))
    assert torch.allclose(white @ fitted.solution, codes - codes.mean(dim=0))  # the map is invertible


def test_codes_without_a_covariance_end_training() -> None:
    algorithm = make_algorithm(PlainAutoencoder(Linear(DIM), Scale(), nullcontext), torch.full((8, DIM), torch.inf))
    with pytest.raises(TrainingDiverged, match=r"step 1: lower the learning rate \(lr\)"):
        train(algorithm, 1, lambda *_: None)


def test_a_plain_autoencoder_learns_the_identity_up_to_a_rotation() -> None:
    """Whitened codes of white samples are the samples, rotated. The best gain is 1."""
    torch.manual_seed(0)
    samples = whiten(torch.randn(256, DIM))
    autoencoder = PlainAutoencoder(Linear(DIM), Rotation(), nullcontext)
    reported: list[Losses] = []
    train(make_algorithm(autoencoder, samples, lr=0.1), 500, lambda _, losses: reported.append(losses))
    assert reported[0]["reconstruction"] > 0.5
    assert reported[-1]["reconstruction"] < 1e-3


class Rotation(Scale):
    """A linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.rotation = nn.Linear(DIM, DIM, bias=False)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        rotated: Tensor = self.rotation(z)
        return rotated * self.gain


def test_losses_are_means_over_microbatches() -> None:
    samples = torch.randn(8, DIM, generator=torch.Generator().manual_seed(5))
    reported: list[Losses] = []
    for parts in (1, 2):
        train(make_algorithm(variational(), samples, microbatches=parts), 1, lambda _, losses: reported.append(losses))
    assert reported[1]["divergence"] == pytest.approx(reported[0]["divergence"], rel=1e-5)
