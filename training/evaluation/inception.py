"""The published feature extractor: Inception-v3, as used for FID (https://arxiv.org/abs/1706.08500).

The network, its weights and the resizing come from torch-fidelity (https://github.com/toshas/torch-fidelity). It is an
optional dependency, imported only here. The arithmetic of metrics is latentd's own.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from latentd.models.hardware import choose_device
from latentd.models.outputs.image import to_pixels
from latentd.models.tensor_files import write_tensors
from latentd.training.data.cache import cache_folder
from latentd.training.data.source import DataError, OnProgress, TaskProgress
from latentd.training.evaluation.features import FeatureExtractor

logger = logging.getLogger(__name__)

_LAYERS = ("2048", "logits_unbiased")
"""The layers of FID and of the Inception score; the published score uses logits without their bias."""
_ROWS = 64
"""Images per forward pass."""
_TENSORS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class Inception(FeatureExtractor):
    """Passes images to torch-fidelity's extractor as the service returns them: as bytes, in RGB."""

    measured_on = "Inception-v3 features (torch-fidelity)"

    def __init__(self, network: nn.Module, weights_name: str, on_progress: OnProgress) -> None:
        self._device = choose_device("auto")
        torch.backends.cudnn.allow_tf32 = False  # published metrics use float32
        self._network = network.to(self._device)
        self._weights_name = weights_name
        self._on_progress = on_progress
        self._done = 0

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N, 1 or 3, H, W] in [-1, 1] → features [N, 2048], probabilities [N, 1008]."""
        extracted = [self._forward(rows) for rows in torch.split(images, _ROWS)]
        features, logits = (torch.cat(parts) for parts in zip(*extracted, strict=True))
        return features, logits.softmax(dim=1)

    @torch.no_grad()
    def _forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self._network(_to_rgb(images).to(self._device))
        self._done += len(images)
        self._on_progress(TaskProgress("extracting features", self._done, None, "images"))
        return features.cpu(), logits.cpu()

    def extract_real(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same, cached in a file named by the hash of the pixels."""
        path = cache_folder() / "features" / f"{self._key(images)}.safetensors"
        try:
            cached = load_file(path)
            return cached["features"], cached["probabilities"]
        except (OSError, SafetensorError, KeyError):  # missing or damaged
            features, probabilities = self.extract(images)
        try:
            write_tensors(path, {"features": features, "probabilities": probabilities}, finite=False)
        except OSError as problem:
            logger.warning("features of real images cannot be cached in %s: %s", path.parent, problem)
        return features, probabilities

    def _key(self, images: Tensor) -> str:
        digest = hashlib.sha256(f"{self._weights_name} {_LAYERS} {tuple(images.shape)}".encode())
        for rows in torch.split(images, _ROWS):
            digest.update(to_pixels(rows.numpy()).tobytes())
        return digest.hexdigest()[:32]


def _to_rgb(images: Tensor) -> Tensor:
    """Images [N, 1 or 3, H, W] in [-1, 1] → bytes [N, 3, H, W]; grey is repeated."""
    pixels = torch.from_numpy(to_pixels(images.numpy()))  # [N, H, W, C]
    return pixels.permute(0, 3, 1, 2).expand(-1, 3, -1, -1)


def load_inception(on_progress: OnProgress) -> Inception:
    """Load torch-fidelity's extractor, which downloads its weights once.

    Raises DataError if the package or the weights are missing or damaged.
    """
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as fidelity  # an optional dependency: it is large
    except (ImportError, OSError, RuntimeError) as problem:  # a torchvision for another torch raises any of these
        raise DataError(
            f"Inception needs two more packages ({_first_line(problem)}): pip install torch-fidelity torchvision"
        ) from problem
    url = fidelity.URL_INCEPTION_V3
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    try:
        with _tensors_only():
            network = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", list(_LAYERS), verbose=False)
    except (OSError, EOFError, HTTPException, RuntimeError, TypeError, UnpicklingError) as problem:
        reason = "not a complete file of tensors" if isinstance(problem, UnpicklingError) else _first_line(problem)
        raise DataError(
            f"Inception's weights could not be downloaded or read ({reason}); "
            f"to work offline, or to replace a damaged file, put {url} at {path}"
        ) from problem
    return Inception(network, path.name, on_progress)


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Within the block, torch.load refuses pickles that run code. torch-fidelity does not ask for that itself."""
    before = os.environ.get(_TENSORS_ONLY)
    os.environ[_TENSORS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_TENSORS_ONLY]
        else:
            os.environ[_TENSORS_ONLY] = before


def _first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]
