"""The interface of feature extractors, on whose output metrics of images are computed."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor


class FeatureExtractor(ABC):
    """A pretrained classifier that also returns its features."""

    measured_on: str
    """A description of the features, for cards and captions."""

    @abstractmethod
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N, C, H, W] in [-1, 1] → features [N, values], class probabilities [N, classes]."""

    def extract_real(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same for real images. A slow extractor may cache the result."""
        return self.extract(images)


LoadExtractor = Callable[[], FeatureExtractor]
