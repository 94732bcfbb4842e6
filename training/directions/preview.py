"""Previews of directions: strips of samples."""

import base64

import numpy as np
import torch

from latentd.models.family import Generator
from latentd.models.interpolation import Vector
from latentd.training.directions.dataset import LatentDataset

FRAMES = 7
_MAX_ROWS, _MAX_PIXELS = 3, 2**15
_TRUNCATION = 0.7


class PreviewRenderer:
    """Renders previews for one generator."""

    def __init__(self, generator: Generator) -> None:
        self._output = generator.spec.output
        if self._output.picture_size:
            height, width = self._output.picture_size
            row_pixels = FRAMES * height * width
            rows = min(_MAX_ROWS, max(1, _MAX_PIXELS // row_pixels))
            self._dataset = LatentDataset.from_seeds(generator, range(rows), _TRUNCATION)

    def render(self, vector: Vector, most: float) -> str | None:
        """Return a PNG in base64; None if samples are not images.

        It has a row for each seed 0, 1, …, whose frames go from -`most` to `most` of `vector` [dim].
        """
        if self._output.picture_size is None:
            return None
        shifted = self._dataset.shifted(vector, np.linspace(-most, most, FRAMES).tolist())
        samples = torch.from_numpy(shifted.samples)
        frames = samples.view(FRAMES, -1, *samples.shape[1:])  # [frames, rows, C, H, W]
        strip = frames.permute(2, 1, 3, 0, 4).flatten(3).flatten(1, 2)  # [C, rows · H, frames · W]
        return base64.b64encode(self._output.encode(strip[None].numpy(), "png")[0]).decode()
