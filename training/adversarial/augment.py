"""Augmentation of the images that the discriminator sees, so that it cannot memorise a small data set.

DiffAugment (Zhao et al. 2020, https://arxiv.org/abs/2006.10738) changes all images, real and fake, and lets gradients
through. ADA (Karras et al. 2020, https://arxiv.org/abs/2006.06676) changes an image with a probability p, which rises
while the discriminator overfits.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn
from torch.nn.functional import pad

from latentd.training.recipes.base import Table, require_known

View = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] → images of the same shape. Each image is changed by a random amount of its own."""

_SHIFT = 1 / 8
"""Largest shift of `translate`, as a fraction of the image's side (DiffAugment's value)."""
_CUTOUT = 1 / 2
"""Side of the square of `cutout`, as a fraction of the image's side (DiffAugment's value)."""
_ADJUST_EVERY = 4
"""Discriminator updates between two changes of p (ADA, section 3.1)."""


def flip(images: Tensor) -> Tensor:
    """Mirror left to right with probability ½."""
    return torch.where(_uniform(images) < 0.5, images.flip(3), images)


def rotate90(images: Tensor) -> Tensor:
    """Rotate by 0, 90, 180 or 270 degrees."""
    turns = torch.randint(4, (len(images), 1, 1, 1), device=images.device)
    for quarter in range(1, 4):
        images = torch.where(turns >= quarter, images.rot90(1, (2, 3)), images)
    return images


def translate(images: Tensor) -> Tensor:
    """Shift by up to an eighth of the side in both directions. What enters the image is zero."""
    count, _, height, width = images.shape
    down, right = round(height * _SHIFT), round(width * _SHIFT)
    rows = torch.randint(2 * down + 1, (count, 1, 1, 1), device=images.device)
    columns = torch.randint(2 * right + 1, (count, 1, 1, 1), device=images.device)
    at_rows = rows + torch.arange(height, device=images.device)[:, None]  # [N, 1, H, 1]
    at_columns = columns + torch.arange(width, device=images.device)  # [N, 1, 1, W]
    padded = pad(images, (right, right, down, down))
    which = torch.arange(count, device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[:, None, None]
    return padded[which, channels, at_rows, at_columns]


def brighten(images: Tensor) -> Tensor:
    """Add a number from [-0.5, 0.5) to all values."""
    return images + _uniform(images) - 0.5


def saturate(images: Tensor) -> Tensor:
    """Scale the distance of colors from grey by a factor from [0, 2)."""
    grey = images.mean(dim=1, keepdim=True)
    return grey + (images - grey) * 2 * _uniform(images)


def contrast(images: Tensor) -> Tensor:
    """Scale the distance of values from the image's mean by a factor from [0.5, 1.5)."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (_uniform(images) + 0.5)


def cutout(images: Tensor) -> Tensor:
    """Set a square of half the side to zero. A part of it may lie outside the image."""
    count, _, height, width = images.shape
    kept = []
    for side, shape in ((height, (1, 1, height, 1)), (width, (1, 1, 1, width))):
        size = round(side * _CUTOUT)
        middle = torch.randint(side + 1 - size % 2, (count, 1, 1, 1), device=images.device)
        offset = torch.arange(side, device=images.device).view(shape) - middle + size // 2
        kept.append((offset < 0) | (offset >= size))
    return images * (kept[0] | kept[1])


VIEWS: dict[str, View] = {
    "flip": flip,
    "rotate90": rotate90,
    "translation": translate,
    "brightness": brighten,
    "saturation": saturate,
    "contrast": contrast,
    "cutout": cutout,
}


def flip_and_translate(images: Tensor) -> Tensor:
    """Apply the augmentation of consistency regularisation."""
    return translate(flip(images))


class Augment(nn.Module):
    """Applies `views` to images, each with probability p.

    Without a `target` p is 1. With one, p rises while the overfitting indicator r_t = E[sign(D(real))] is above the
    target, and falls while it is below. `speed` is the number of real images in which p can rise from 0 to 1. p and
    the running mean of r_t are buffers, so they are saved with a run's state.
    """

    p: Tensor
    _r_t: Tensor
    _updates: Tensor

    def __init__(self, views: Sequence[View], target: float | None = None, speed: float = 500_000) -> None:
        super().__init__()
        self._views = tuple(views)
        self._target = target
        self._speed = speed
        self.register_buffer("p", torch.tensor(1.0 if target is None else 0.0))
        self.register_buffer("_r_t", torch.tensor(0.0))
        self.register_buffer("_updates", torch.tensor(0))
        self.register_load_state_dict_pre_hook(_accept_old_names)  # type: ignore[no-untyped-call]  # torch has no types

    @property
    def adapts(self) -> bool:
        """Whether p follows r_t."""
        return self._target is not None

    def forward(self, images: Tensor) -> Tensor:
        """Return augmented images, [N, C, H, W] → [N, C, H, W]."""
        for view in self._views:
            changed = view(images)
            images = changed if self._target is None else torch.where(_uniform(images) < self.p, changed, images)
        return images

    @torch.no_grad()
    def observe(self, r_t: Tensor, images: int) -> None:
        """Take in r_t, a scalar, of an update with `images` real images. Every fourth call changes p."""
        if self._target is None:
            return
        self._r_t += r_t / _ADJUST_EVERY
        self._updates += 1
        is_due = self._updates % _ADJUST_EVERY == 0  # stays on the device, so that the CPU need not wait for it
        step = (self._r_t - self._target).sign() * (images * _ADJUST_EVERY / self._speed)
        self.p.copy_(torch.where(is_due, self.p + step, self.p).clamp(0.0, 1.0))
        self._r_t *= ~is_due


class AugmentTable(Table):
    """The `[augment]` table: DiffAugment without a `target`, ADA with one."""

    views: tuple[str, ...] = Field(min_length=1)
    target: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """The value of r_t = E[sign(D(x))] that ADA adapts p for; its paper takes 0.6."""
    speed: PositiveInt = 500_000
    """Number of real images in which p can rise from 0 to 1."""

    @field_validator("views")
    @classmethod
    def _views_exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(require_known("view", name, VIEWS) for name in names)

    def build(self) -> Augment:
        """Return the module that augments images."""
        return Augment([VIEWS[name] for name in self.views], self.target, self.speed)


def _accept_old_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Read state files from before the buffers were renamed."""
    for old, new in (("_sureness", "_r_t"), ("_heard", "_updates")):
        if prefix + old in state:
            state[prefix + new] = state.pop(prefix + old)


def _uniform(images: Tensor) -> Tensor:
    """Return a number from [0, 1) for each image: [N, 1, 1, 1]."""
    return torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype)
