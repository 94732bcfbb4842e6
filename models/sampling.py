"""From latents to samples in microbatches of one fixed size, so that a sample's bits never depend on its batch.

Libraries choose a kernel by the shape of the problem and so may round differently from one batch size to another;
within one shape a row does not depend on its neighbours. Every forward pass of a served or sampled generator has
MICROBATCH rows, the last ones padding where fewer are wanted.
"""

from collections.abc import Sequence

import numpy as np
import torch

from models.family import Generator
from models.latents import Latents
from models.outputs.base import Samples
from models.spec import ClassCondition

MICROBATCH = 16


@torch.inference_mode()
def forward_microbatch(generator: Generator, latents: Latents, labels: Sequence[int | None]) -> Samples:
    """Latents [n, dim] and classes (n ≤ MICROBATCH; None where there are none) → samples [n, *shape], float32."""
    device = next(generator.parameters()).device
    rows = np.zeros((MICROBATCH, latents.shape[1]), dtype=np.float32)
    rows[: len(latents)] = latents
    z = torch.from_numpy(rows).to(device)  # [MICROBATCH, dim]
    condition = None
    if isinstance(generator.spec.condition, ClassCondition):
        padded = [label or 0 for label in labels] + [0] * (MICROBATCH - len(labels))
        condition = generator.spec.condition.one_hot(torch.tensor(padded)).to(device)  # [MICROBATCH, classes]
    samples: Samples = generator(z, condition)[: len(latents)].float().cpu().numpy()
    return samples


def generate(generator: Generator, latents: Latents, labels: Sequence[int | None]) -> Samples:
    """Latents [N, dim] and classes, any N ≥ 1 → samples [N, *shape], the same bits that a served model gives."""
    starts = range(0, len(latents), MICROBATCH)
    parts = [
        forward_microbatch(generator, latents[start : start + MICROBATCH], labels[start : start + MICROBATCH])
        for start in starts
    ]
    return np.concatenate(parts)
