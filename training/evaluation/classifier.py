"""The embedded feature extractor: a small classifier of grey 28 x 28 images, trained on Fashion-MNIST.

Metrics use its features by default, because Inception's weights need a download. Its classes are used to count classes
of generated garments. `python -m latentd.training.evaluation.train_classifier` trained the shipped weights.
"""

from importlib.resources import files

import torch
from safetensors.torch import load
from torch import Tensor, nn

from latentd.training.evaluation.features import FeatureExtractor

CLASSIFIER_DATASET = "fashion-mnist"
"""The data set whose classes it knows."""
INPUT_SHAPE = (1, 28, 28)
WEIGHTS_FILE = f"{CLASSIFIER_DATASET}.safetensors"
_CLASSES = 10
_ROWS = 500
"""Images per forward pass."""


class Classifier(nn.Module, FeatureExtractor):
    """Images [N, 1, 28, 28] in [-1, 1] → features [N, 4 · width] → logits [N, 10]."""

    measured_on = "features of the embedded Fashion-MNIST classifier"

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [1, width, width, 2 * width, 2 * width, 4 * width, 4 * width]
        strides = [1, 1, 2, 1, 2, 1]
        layers: list[nn.Module] = []
        for inputs, outputs, stride in zip(sizes, sizes[1:], strides, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.logits = nn.Linear(sizes[-1], _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.features(images))
        return logits

    @torch.no_grad()
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N, 1, 28, 28] in [-1, 1] → features [N, 4 · width], probabilities [N, 10]."""
        features = torch.cat([self.features(rows) for rows in torch.split(images, _ROWS)])
        return features, self.logits(features).softmax(dim=1)


def load_classifier() -> Classifier:
    """Return the classifier with the shipped weights, in evaluation mode."""
    classifier = Classifier()
    content = files("latentd.training.evaluation").joinpath(WEIGHTS_FILE).read_bytes()
    classifier.load_state_dict({name: tensor.float() for name, tensor in load(content).items()})
    return classifier.to(memory_format=torch.channels_last).eval()  # type: ignore[no-any-return, call-overload]
