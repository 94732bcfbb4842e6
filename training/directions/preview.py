"""How a direction looks: a strip of samples."""

import base64

import numpy as np
import torch

from latentd.models.family import Generator
from latentd.models.interpolation import Vector
from latentd.models.outputs import ImageOutput
from latentd.training.directions.dataset import Studied

FRAMES = 7
_MOST_ROWS, _MOST_PIXELS = 3, 2**15
_TYPICAL = 0.7
"""Truncation of the seeds that are shown."""


class Strips:
    """Draws them for one generator."""

    def __init__(self, generator: Generator) -> None:
        output = generator.spec.output
        self._output = output if isinstance(output, ImageOutput) else None
        if self._output:
            strip = FRAMES * self._output.height * self._output.width
            rows = min(_MOST_ROWS, max(1, _MOST_PIXELS // strip))
            self._shown = Studied.of(generator, range(rows), _TYPICAL)

    def draw(self, vector: Vector, most: float) -> str | None:
        """A PNG in base64: a row a seed, 0, 1, …, from -`most` to `most` of `vector` [dim]; None of no pictures."""
        if self._output is None:
            return None
        moved = self._shown.moved(vector, np.linspace(-most, most, FRAMES).tolist())
        samples = torch.from_numpy(moved.samples)
        frames = samples.view(FRAMES, -1, *samples.shape[1:])  # [frames, rows, C, H, W]
        strip = frames.permute(2, 1, 3, 0, 4).flatten(3).flatten(1, 2)  # [C, rows · H, frames · W]
        _, height, width = strip.shape
        picture = self._output.model_copy(update={"height": height, "width": width})
        return base64.b64encode(picture.encode(strip[None].numpy(), "png")[0]).decode()
