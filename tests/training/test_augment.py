"""Augmentation: each view by itself, and the adaptive probability p."""

import pytest
import torch
from torch import Tensor

from latentd.training.adversarial.augment import (
    VIEWS,
    Augment,
    brighten,
    contrast,
    cutout,
    flip,
    rotate90,
    saturate,
    translate,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


IMAGES = torch.arange(3 * 8 * 8, dtype=torch.float32).view(1, 3, 8, 8).repeat(64, 1, 1, 1) / 96 - 1


def kinds(seen: Tensor) -> int:
    return len({image.numpy().tobytes() for image in seen})


def test_flips_and_rotations() -> None:
    flipped = flip(IMAGES)
    assert kinds(flipped) == 2
    assert all(torch.equal(image, IMAGES[0]) or torch.equal(image, IMAGES[0].flip(2)) for image in flipped)
    rotated = rotate90(IMAGES)
    assert kinds(rotated) == 4
    quarter_turns = [IMAGES[0].rot90(times, (1, 2)) for times in range(4)]
    assert all(any(torch.equal(image, expected) for expected in quarter_turns) for image in rotated)


def test_translation_shifts_by_an_eighth_and_fills_with_zero() -> None:
    moved = translate(IMAGES)
    assert kinds(moved) == 9  # one pixel of eight each way
    expected = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            canvas = torch.zeros(3, 10, 10)
            canvas[:, 1 + down : 9 + down, 1 + right : 9 + right] = IMAGES[0]
            expected.append(canvas[:, 1:9, 1:9])
    assert all(any(torch.equal(image, shifted) for shifted in expected) for image in moved)


def test_brightness_contrast_and_saturation() -> None:
    change = (brighten(IMAGES) - IMAGES).flatten(1)
    assert change.std(dim=1).max() < 1e-6
    assert change.min() >= -0.5 - 1e-6
    assert change.max() <= 0.5 + 1e-6
    mean = IMAGES.mean(dim=(1, 2, 3), keepdim=True)
    factor = ((contrast(IMAGES) - mean) / (IMAGES - mean)).flatten(1)
    assert factor.std(dim=1).max() < 1e-4
    assert 0.5 <= factor.min() <= factor.max() <= 1.5
    grey = IMAGES.mean(dim=1, keepdim=True)
    saturated = saturate(IMAGES)
    assert torch.allclose(saturated.mean(dim=1, keepdim=True), grey, atol=1e-6)
    strength = ((saturated - grey) / (IMAGES - grey))[:, 0].flatten(1)
    assert strength.std(dim=1).max() < 1e-4
    assert 0 <= strength.min() <= strength.max() <= 2


def test_cutout_removes_a_square_of_half_the_side() -> None:
    cut = cutout(torch.ones(256, 1, 8, 8))
    missing = (cut == 0).sum(dim=(1, 2, 3))
    assert missing.max() == 16
    assert missing.min() == 4  # its centre is in a corner
    rows, columns = (cut == 0).any(dim=3).sum(dim=(1, 2)), (cut == 0).any(dim=2).sum(dim=(1, 2))
    assert torch.equal(rows * columns, missing)


@pytest.mark.parametrize("name", VIEWS)
def test_views_let_gradients_through(name: str) -> None:
    images = IMAGES.clone().requires_grad_()
    VIEWS[name](images).square().sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert images.grad.count_nonzero() > 0


def test_without_a_target_all_images_are_changed() -> None:
    augment = Augment([lambda images: images + 1])
    assert torch.equal(augment(IMAGES), IMAGES + 1)
    for _ in range(8):
        augment.observe(torch.tensor(1.0), 64)
    assert augment.p.item() == 1.0


def test_p_rises_while_r_t_is_above_the_target_and_falls_below_it() -> None:
    augment = Augment([lambda images: images + 1], target=0.6, speed=1000)
    assert torch.equal(augment(IMAGES), IMAGES)  # p is 0 at first
    values = []
    for r_t in [1.0] * 8 + [0.5, 0.5, 0.5, 0.8] + [0.0] * 8:
        augment.observe(torch.tensor(r_t), 64)
        values.append(augment.p.item())
    # p changes by 4 · 64 / 1000 in every fourth update; the mean of 0.5, 0.5, 0.5, 0.8 is below 0.6; p stops at 0
    expected = [0.0] * 3 + [0.256] * 4 + [0.512] * 4 + [0.256] * 4 + [0.0] * 5
    assert values == pytest.approx(expected)


def test_p_is_the_fraction_of_images_that_are_changed() -> None:
    augment = Augment([lambda images: images + 1], target=0.6)
    augment.p.fill_(0.25)
    changed = (augment(torch.zeros(4000, 1, 1, 1)) == 1).float().mean().item()
    assert changed == pytest.approx(0.25, abs=0.03)


def test_the_running_mean_of_r_t_is_saved() -> None:
    first, second = (Augment([flip], target=0.6, speed=1000) for _ in range(2))
    first.observe(torch.tensor(1.0), 64)
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second.observe(torch.tensor(1.0), 64)
    assert second.p.item() == pytest.approx(0.256)


def test_states_with_the_old_names_are_read() -> None:
    first, second = (Augment([flip], target=0.6, speed=1000) for _ in range(2))
    first.observe(torch.tensor(1.0), 64)
    old = {
        {"_r_t": "_sureness", "_updates": "_heard"}.get(name, name): value for name, value in first.state_dict().items()
    }
    second.load_state_dict(old)
    assert second.state_dict() == first.state_dict()
