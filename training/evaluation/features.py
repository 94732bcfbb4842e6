"""The interface of feature extractors, on whose output metrics of images are computed."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor


class FeatureExtractor(ABC):
    """A pretrained network. Its features are used, and its class probabilities if it has classes."""

    measured_on: str
    """A description of the features, for cards and captions."""

    @abstractmethod
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images [N, C, H, W] in [-1, 1] → features [N, values], class probabilities [N, classes] or None."""

    def extract_real(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The same for real images. A slow extractor may cache the result."""
        return self.extract(images)


LoadExtractor = Callable[[], FeatureExtractor]
