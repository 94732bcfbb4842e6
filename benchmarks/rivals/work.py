"""The work of one batch, the same for all rivals: the latents, weights, forward pass and encoder of latentd."""

import base64
from pathlib import Path

import torch

from latentd.models.checkpoint import Checkpoint
from latentd.models.file_names import SHIPPED
from latentd.models.hardware import keep_freed_memory
from latentd.models.latents import seeds_to_rows
from latentd.models.sampling import forward_pass

MODEL = "fashion-dcgan"


class Work:
    """The shipped default model, from seeds to base64 PNGs. Rivals get latentd's allocator settings too."""

    def __init__(self, device: str = "cpu", file: Path = SHIPPED / f"{MODEL}.safetensors") -> None:
        keep_freed_memory()
        self._generator = Checkpoint.read(file).build(torch.device(device))

    def draw(self, seeds: list[int]) -> list[str]:
        """Return one base64 PNG per seed, computed in one forward pass."""
        spec = self._generator.spec
        samples = forward_pass(self._generator, seeds_to_rows(spec, seeds), len(seeds))
        return [base64.b64encode(file).decode("ascii") for file in spec.output.encode(samples, "png")]


def limit_threads(threads: int) -> None:
    """Set the number of intra-op threads of this process."""
    torch.set_num_threads(threads)
