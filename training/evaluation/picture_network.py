"""The embedded feature extractor for pictures of any size: a small network, trained on icons, avatars and photographs.

`python -m latentd.training.evaluation.train_picture_network` trained the shipped weights. Their metadata say on what.
"""

from importlib.resources import files

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import interpolate

from latentd.training.evaluation.features import FeatureExtractor

PICTURE_WEIGHTS_FILE = "pictures.safetensors"
SIDE = 64
"""Pictures are resized to so many rows and columns."""
_ROWS = 250
"""Pictures per forward pass."""


class PictureNetwork(nn.Module, FeatureExtractor):
    """Pictures [N, 1 or 3, H, W] in [-1, 1] → features [N, 8 · width]."""

    measured_on = "features of the embedded picture network"

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(width)]
        inputs = width
        for outputs in (2 * width, 4 * width, 8 * width):
            for stride in (2, 1):
                convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
                layers += [nn.ReLU(), convolution, nn.BatchNorm2d(outputs)]
                inputs = outputs
        self.features = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.num_features = inputs

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.features(to_rgb(pictures))
        return features

    @torch.no_grad()
    def extract(self, images: Tensor) -> tuple[Tensor, None]:
        return torch.cat([self(rows) for rows in torch.split(images, _ROWS)]), None


def to_rgb(pictures: Tensor) -> Tensor:
    """Resize pictures [N, 1 or 3, H, W] to [N, 3, SIDE, SIDE]; gray is repeated."""
    if pictures.shape[2:] != (SIDE, SIDE):
        pictures = interpolate(pictures, (SIDE, SIDE), mode="bilinear", antialias=True)
    return pictures.expand(-1, 3, -1, -1)


def load_picture_network() -> PictureNetwork:
    """Return the network with the shipped weights, in evaluation mode."""
    network = PictureNetwork()
    content = files("latentd.training.evaluation").joinpath(PICTURE_WEIGHTS_FILE).read_bytes()
    network.load_state_dict(
        {name: tensor.to(network.state_dict()[name].dtype) for name, tensor in load(content).items()}
    )
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[no-any-return, call-overload]
