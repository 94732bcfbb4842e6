"""What figures of images are measured on: a network that is shown them."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor


class FeatureExtractor(ABC):
    """Tells images by features, and by the classes that it knows."""

    measured_on: str
    """Which features, in words."""

    @abstractmethod
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N, C, H, W] in [-1, 1] → features [N, values] and probabilities [N, classes]."""

    def extract_real(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same of real images, which a network that takes long may know from the last time."""
        return self.extract(images)


LoadExtractor = Callable[[], FeatureExtractor]
