"""Views of images for the discriminator alone, so that it cannot learn a small data set by heart.

DiffAugment (Zhao et al. 2020, https://arxiv.org/abs/2006.10738) shows it every image through the same kinds of views,
real and fake, and lets gradients through; ADA (Karras et al. 2020, https://arxiv.org/abs/2006.06676) shows each view
with a probability p that rises while the discriminator is too sure of itself.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

View = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] → as many; each image is changed by an amount of its own."""

_SHIFT = 1 / 8
"""Of the image's side: DiffAugment's translation, and the largest shift of a consistent view."""
_CUT = 1 / 2
"""Of the image's side: DiffAugment's cutout."""
_ADJUSTED_EVERY = 4
"""Updates of the discriminator between two of p, as in ADA's section 3.1."""


def flip(images: Tensor) -> Tensor:
    """Mirrored left to right."""
    return torch.where(_each(images) < 0.5, images.flip(3), images)


def rotate90(images: Tensor) -> Tensor:
    """Turned by 0, 90, 180 or 270 degrees."""
    turns = torch.randint(4, (len(images), 1, 1, 1), device=images.device)
    for quarter in range(1, 4):
        images = torch.where(turns >= quarter, images.rot90(1, (2, 3)), images)
    return images


def translate(images: Tensor) -> Tensor:
    """Shifted by up to an eighth of the side each way; what comes in is zero."""
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
    """Lighter or darker by up to a half."""
    return images + _each(images) - 0.5


def saturate(images: Tensor) -> Tensor:
    """Colours nearer to grey or up to twice as far from it."""
    grey = images.mean(dim=1, keepdim=True)
    return grey + (images - grey) * 2 * _each(images)


def contrast(images: Tensor) -> Tensor:
    """Values 0.5 to 1.5 times as far from the image's mean."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (_each(images) + 0.5)


def cutout(images: Tensor) -> Tensor:
    """A square of half the side, which may stick out, set to zero."""
    count, _, height, width = images.shape
    kept = []
    for side, shape in ((height, (1, 1, height, 1)), (width, (1, 1, 1, width))):
        size = round(side * _CUT)
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


def consistent_view(images: Tensor) -> Tensor:
    """Mirrored and shifted, as consistency regularisation does."""
    return translate(flip(images))


class Augment(nn.Module):
    """Shows images through `views`, each with probability p: 1 always, or adapted where there is a target.

    Adapting needs `target` (share of real images of which the discriminator is sure, above those of which it is not)
    and `speed` (real images until p could rise from 0 to 1). p and what it rests on are buffers, so they are saved.
    """

    p: Tensor
    _sureness: Tensor
    _heard: Tensor

    def __init__(self, views: Sequence[View], target: float | None = None, speed: float = 500_000) -> None:
        super().__init__()
        self._views = tuple(views)
        self._target = target
        self._speed = speed
        self.register_buffer("p", torch.tensor(1.0 if target is None else 0.0))
        self.register_buffer("_sureness", torch.tensor(0.0))
        self.register_buffer("_heard", torch.tensor(0))

    @property
    def adapts(self) -> bool:
        """Whether p follows what is heard."""
        return self._target is not None

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] → as many."""
        for view in self._views:
            seen = view(images)
            images = seen if self._target is None else torch.where(_each(images) < self.p, seen, images)
        return images

    @torch.no_grad()
    def observe(self, r_t: Tensor, images: int) -> None:
        """Take note of E[sign(D(x))] over `images` real ones; p follows at every fourth time."""
        if self._target is None:
            return
        self._sureness += r_t / _ADJUSTED_EVERY
        self._heard += 1
        adjusted = self._heard % _ADJUSTED_EVERY == 0  # stays on the device: nothing waits for it
        step = (self._sureness - self._target).sign() * (images * _ADJUSTED_EVERY / self._speed)
        self.p.copy_(torch.where(adjusted, self.p + step, self.p).clamp(0.0, 1.0))
        self._sureness *= ~adjusted


def _each(images: Tensor) -> Tensor:
    """A number from [0, 1) for each of the images: [N, 1, 1, 1]."""
    return torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype)
