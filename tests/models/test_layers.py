"""Shared layers, against cases worked out by hand."""

import pytest
import torch
from torch import nn

from latentd.models.families import build_discriminator
from latentd.models.layers import FourierFeatures, MinibatchStd, maybe_spectral_norm
from tests.conftest import image_spec, points_spec


def test_minibatch_std_of_a_group() -> None:
    """Features 0 and 2, then 4 and 4: standard deviations 1 and 0, whose mean is 0.5; the other group does not vary."""
    x = torch.tensor([[0.0, 4.0], [2.0, 4.0], [7.0, 7.0], [7.0, 7.0]])
    out = MinibatchStd(2)(x)
    assert torch.equal(out[:, :2], x)
    assert out[:, 2].tolist() == pytest.approx([0.5, 0.5, 0.0, 0.0], abs=1e-3)


def test_minibatch_std_appends_a_feature_map() -> None:
    x = torch.zeros(6, 3, 4, 4)
    x[0] = 2.0  # beside a zero: a standard deviation of 1 everywhere
    out = MinibatchStd(2)(x)
    assert out.shape == (6, 4, 4, 4)
    assert out[:2, 3].flatten().tolist() == pytest.approx([1.0] * 32, abs=1e-3)
    assert out[2:, 3].max() < 1e-3


def test_spectral_norm_keeps_the_largest_singular_value_at_one() -> None:
    torch.manual_seed(0)
    layer = maybe_spectral_norm(nn.Linear(8, 8), "spectral")
    for _ in range(50):
        layer(torch.zeros(1, 8))
    assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1.0, rel=1e-3)
    plain = nn.Linear(8, 8)
    assert maybe_spectral_norm(plain, "none") is plain


@pytest.mark.parametrize(("spec", "config"), [(image_spec(), {"width": 8}), (points_spec(), {"hidden": (8,)})])
def test_discriminators_judge_packed_samples(spec: object, config: dict[str, object]) -> None:
    judge = build_discriminator(spec, config | {"norm": "spectral", "minibatch_std": 4}, pack_size=3)  # type: ignore[arg-type]  # any spec
    first, *rest = spec.output.shape  # type: ignore[attr-defined]
    logits = judge(torch.randn(4, 3 * first, *rest))
    assert logits.shape == (4,)


def test_fourier_features_are_appended_to_the_inputs() -> None:
    torch.manual_seed(0)
    layer = FourierFeatures(2, 3000, bandwidth=5.0)
    x = torch.tensor([[0.3, -0.7], [0.0, 0.0]])
    out = layer(x)
    assert out.shape == (2, 2 + 2 * 3000)
    assert torch.equal(out[:, :2], x)
    turns = x[0, 0] * layer.frequencies[0] + x[0, 1] * layer.frequencies[1]
    assert torch.allclose(out[0, 2:3002], turns.sin(), atol=1e-5)
    assert torch.allclose(out[0, 3002:], turns.cos(), atol=1e-5)
    assert layer.frequencies.std().item() == pytest.approx(5.0, rel=0.05)
    assert "frequencies" in layer.state_dict()  # a resumed run needs the same frequencies
