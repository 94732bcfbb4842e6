"""`dcgan`: convolutional networks for square images of 28, 32, 64, 128 or 256 pixels per side.

Radford et al. 2015, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks"
(https://arxiv.org/abs/1511.06434). Class-conditional batch normalization after de Vries et al. 2017
(https://arxiv.org/abs/1707.00683), the projection discriminator after Miyato and Koyama 2018
(https://arxiv.org/abs/1802.05637).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from latentd.models.family import Discriminator, Encoder, Family, FamilyConfig, Generator
from latentd.models.layers import BatchInvariantLinear, MinibatchStd, maybe_spectral_norm
from latentd.models.spec import GeneratorSpec

# Image side → side of the generator's first feature map, and how often it doubles.
_DOUBLINGS = {28: (7, 2), 32: (4, 3), 64: (4, 4), 128: (4, 5), 256: (4, 6)}
_MAX_CHANNELS = 512
_MAX_LAST_SIDE = 4


class DcganConfig(FamilyConfig):
    """The generator's arguments."""

    width: int = Field(default=64, ge=4, le=512)
    """Channels of the feature map at half the image's side. Each halving of the side doubles them, up to 512."""


class DcganEncoderConfig(FamilyConfig):
    """The encoder's arguments."""

    width: int = Field(default=64, ge=4, le=512)
    """Channels after the first halving. Each further halving doubles them, up to 512."""
    norm: Literal["batch", "spectral", "none"] = "batch"
    """`batch` as in DCGAN, `spectral` as in SNGAN."""
    leaky_slope: float = Field(default=0.2, ge=0.0, lt=1.0)


class DcganDiscriminatorConfig(DcganEncoderConfig):
    """The discriminator's arguments."""

    minibatch_std: int = Field(default=0, ge=0)
    """Group size of a MinibatchStd layer before the logit; 0: no such layer."""


class ConditionalBatchNorm(nn.Module):
    """Batch normalization. With classes, gain and bias are a linear function of the class weights."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=classes == 0)
        self.gain_and_bias: nn.Linear | None = None
        if classes:
            self.gain_and_bias = BatchInvariantLinear(classes, 2 * channels, bias=False)
            with torch.no_grad():
                self.gain_and_bias.weight[:channels] = 1.0
                self.gain_and_bias.weight[channels:] = 0.0

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        normed: Tensor = self.norm(x)  # [N, C, H, W]
        if self.gain_and_bias is None:
            return normed
        gain, bias = self.gain_and_bias(condition)[:, :, None, None].chunk(2, dim=1)  # each [N, C, 1, 1]
        conditioned: Tensor = normed * gain + bias
        return conditioned


class DcganGenerator(Generator):
    """Latent → a small feature map → strided transposed convolutions that double its side → tanh image."""

    def __init__(self, spec: GeneratorSpec, config: DcganConfig) -> None:
        super().__init__(spec)
        base, doublings = _resolutions(spec)
        classes = spec.condition.size
        channels = [min(config.width * 2**level, _MAX_CHANNELS) for level in range(doublings)][::-1]
        channels.append(max(config.width // 2, 4))
        self.base_shape = (channels[0], base, base)
        self.project = BatchInvariantLinear(spec.input.size, channels[0] * base * base)
        self.project_norm = ConditionalBatchNorm(channels[0], classes)
        self.doublings = nn.ModuleList(
            nn.ConvTranspose2d(channels[i], channels[i + 1], kernel_size=4, stride=2, padding=1, bias=False)
            for i in range(doublings)
        )
        self.norms = nn.ModuleList(ConditionalBatchNorm(count, classes) for count in channels[1:])
        self.to_image = nn.Conv2d(channels[-1], spec.output.shape[0], kernel_size=3, padding=1)
        self.apply(_initialize)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        x = self.project(z).unflatten(1, self.base_shape)  # [N, C, base, base]
        x = self.project_norm(x, condition).relu()
        for double, norm in zip(self.doublings, self.norms, strict=True):
            x = norm(double(x), condition).relu()  # [N, C / 2, 2 H, 2 W]
        image: Tensor = self.to_image(x).tanh()  # [N, channels, side, side]
        return image


class DcganDiscriminator(Discriminator):
    """Image → strided convolutions that halve its side → a logit, plus the projection on the class embedding."""

    def __init__(self, spec: GeneratorSpec, config: DcganDiscriminatorConfig) -> None:
        super().__init__()
        layers, channels, side = _halvings(spec, config)
        classes = spec.condition.size
        if config.minibatch_std:
            self.group_size = config.minibatch_std
            layers.append(MinibatchStd(config.minibatch_std))
        self.features = nn.Sequential(*layers, nn.Flatten())
        feature_count = (channels + bool(config.minibatch_std)) * side * side
        self.logit = maybe_spectral_norm(nn.Linear(feature_count, 1), config.norm)
        self.class_embedding: nn.Module | None = None
        if classes:
            self.class_embedding = maybe_spectral_norm(nn.Linear(classes, feature_count, bias=False), config.norm)
        self.apply(_initialize)

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        features = self.features(samples)  # [N, feature_count]
        logits: Tensor = self.logit(features).squeeze(1)  # [N]
        if self.class_embedding is not None:
            logits = logits + (self.class_embedding(condition) * features).sum(dim=1)
        return logits


class DcganEncoder(Encoder):
    """Image → strided convolutions that halve its side → outputs."""

    def __init__(self, spec: GeneratorSpec, config: DcganEncoderConfig, outputs: int) -> None:
        super().__init__()
        layers, channels, side = _halvings(spec, config)
        last = maybe_spectral_norm(nn.Linear(channels * side * side, outputs), config.norm)
        self.layers = nn.Sequential(*layers, nn.Flatten(), last)
        self.apply(_initialize)

    def forward(self, samples: Tensor) -> Tensor:
        outputs: Tensor = self.layers(samples)  # [N, outputs]
        return outputs


def _halvings(spec: GeneratorSpec, config: DcganEncoderConfig) -> tuple[list[nn.Module], int, int]:
    """Return the layers from an image to a small feature map, and the channels and the side of this map."""
    base, halvings = _resolutions(spec)
    if base > _MAX_LAST_SIDE:  # 28 → 14 → 7 → 3: the last features see the whole image
        base, halvings = base // 2, halvings + 1
    channels = [min(config.width * 2**level, _MAX_CHANNELS) for level in range(halvings)]
    layers: list[nn.Module] = []
    for level, (inputs, outputs) in enumerate(zip([spec.output.shape[0], *channels], channels, strict=False)):
        normed = config.norm == "batch" and level > 0  # not in the first layer, as in the DCGAN paper
        halve = nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1, bias=not normed)
        layers.append(maybe_spectral_norm(halve, config.norm))
        if normed:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.LeakyReLU(config.leaky_slope))
    return layers, channels[-1], base


def _resolutions(spec: GeneratorSpec) -> tuple[int, int]:
    """Return the side of the smallest feature map, and how often it doubles to the image's side."""
    height, width = spec.output.picture_size or (0, 0)
    if height != width or height not in _DOUBLINGS:
        sides = ", ".join(map(str, _DOUBLINGS))
        raise ValueError(
            f"family dcgan makes square images of {sides} pixels per side, not of shape {spec.output.shape}"
        )
    return _DOUBLINGS[height]


def _initialize(module: nn.Module) -> None:
    """Draw convolution weights from N(0, 0.02²), as in the DCGAN paper, except under spectral normalization."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not is_parametrized(module):
        if module.weight.is_meta:  # nothing to draw, and drawing would load torch's compiler
            return
        nn.init.normal_(module.weight, std=0.02)


FAMILY = Family(
    DcganConfig, DcganGenerator, DcganDiscriminatorConfig, DcganDiscriminator, DcganEncoderConfig, DcganEncoder
)
