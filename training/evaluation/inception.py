"""The published feature network: Inception-v3, as FID (https://arxiv.org/abs/1706.08500) and its followers have it.

The network, its weights and the resizing are torch-fidelity's (https://github.com/toshas/torch-fidelity), an extra that
is imported only here; the arithmetic is that of all other figures.
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
"""What FID and its relatives are measured on, and what the Inception score is: as published, without the bias."""
_ROWS = 64
_TENSORS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class Inception(FeatureExtractor):
    """Shows torch-fidelity's extractor what is served: bytes, in RGB."""

    measured_on = "Inception-v3 features (torch-fidelity)"

    def __init__(self, extractor: nn.Module, weights: str, on_progress: OnProgress) -> None:
        self._device = choose_device("auto")
        torch.backends.cudnn.allow_tf32 = False  # the published figures are of float32
        self._extractor = extractor.to(self._device)
        self._weights = weights
        self._on_progress = on_progress
        self._seen = 0

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N, 1 or 3, H, W] → features [N, 2048] and probabilities [N, 1008]."""
        seen = [self._extract(rows) for rows in torch.split(images, _ROWS)]
        features, logits = (torch.cat(parts) for parts in zip(*seen, strict=True))
        return features, logits.softmax(dim=1)

    @torch.no_grad()
    def _extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self._extractor(_in_colour(images).to(self._device))
        self._seen += len(images)
        self._on_progress(TaskProgress("extracting features", self._seen, None, "images"))
        return features.cpu(), logits.cpu()

    def extract_real(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """From the cache, where these images' features are, by the hash of what is shown; else they are put there."""
        path = cache_folder() / "features" / f"{self._key(images)}.safetensors"
        try:
            known = load_file(path)
            return known["features"], known["probabilities"]
        except (OSError, SafetensorError, KeyError):  # none yet, or not whole: they are extracted again
            features, probabilities = self.extract(images)
        try:
            write_tensors(path, {"features": features, "probabilities": probabilities}, finite=False)
        except OSError as problem:
            logger.warning("features of real images cannot be kept in %s: %s", path.parent, problem)
        return features, probabilities

    def _key(self, images: Tensor) -> str:
        digest = hashlib.sha256(f"{self._weights} {_LAYERS} {tuple(images.shape)}".encode())
        for rows in torch.split(images, _ROWS):
            digest.update(to_pixels(rows.numpy()).tobytes())
        return digest.hexdigest()[:32]


def _in_colour(images: Tensor) -> Tensor:
    """[N, 1 or 3, H, W] in [-1, 1] → the bytes that are served for them, [N, 3, H, W]; grey is repeated."""
    pixels = torch.from_numpy(to_pixels(images.numpy()))  # [N, H, W, C]
    return pixels.permute(0, 3, 1, 2).expand(-1, 3, -1, -1)


def load_inception(on_progress: OnProgress) -> Inception:
    """By way of torch-fidelity, which fetches the weights once; DataError where either cannot be had."""
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as published  # an extra: few need it, and it is large
    except (ImportError, OSError, RuntimeError) as problem:  # a torchvision for another torch raises any of these
        raise DataError(
            f"Inception needs two more packages ({_line(problem)}): pip install torch-fidelity torchvision"
        ) from problem
    url = published.URL_INCEPTION_V3
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    try:
        with _tensors_only():
            extractor = published.FeatureExtractorInceptionV3("inception-v3-compat", list(_LAYERS), verbose=False)
    except (OSError, EOFError, HTTPException, RuntimeError, TypeError, UnpicklingError) as problem:
        why = "no whole file of tensors" if isinstance(problem, UnpicklingError) else _line(problem)
        raise DataError(
            f"Inception's weights could not be fetched or read ({why}); "
            f"to work offline, or in the place of a broken file, put {url} at {path}"
        ) from problem
    return Inception(extractor, path.name, on_progress)


@contextmanager
def _tensors_only() -> Iterator[None]:
    """torch-fidelity reads its weights as any pickle; within this torch reads tensors and runs nothing."""
    before = os.environ.get(_TENSORS_ONLY)
    os.environ[_TENSORS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_TENSORS_ONLY]
        else:
            os.environ[_TENSORS_ONLY] = before


def _line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]
