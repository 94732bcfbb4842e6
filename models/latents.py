"""The latent space: from an integer seed to a latent (and, where a request leaves it open, a class).

The streams are NumPy's legacy `RandomState`, which NumPy has frozen (NEP 19) and StyleGAN's tools use too, so a seed
means the same latent in every version of latentd.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentd.models.spec import ClassCondition, GeneratorSpec

MAX_SEED = 2**32 - 1

Latents = NDArray[np.float32]


@dataclass(frozen=True)
class SeededLatent:
    """What a seed stands for: a latent [dim], float32, and a class index where the generator has classes."""

    latent: Latents
    label: int | None


def seed_to_latent(spec: GeneratorSpec, seed: int) -> SeededLatent:
    """The latent of `seed` (0 … 2**32-1), and the class that it names when nobody names another.

    The class is drawn after the latent, from the same stream. ValueError outside the range of seeds.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"a seed is an integer from 0 to {MAX_SEED}, not {seed}")
    stream = random_state(seed)
    dim = spec.input.dim
    normal = spec.input.distribution == "normal"
    latent = stream.standard_normal(dim) if normal else stream.uniform(-1.0, 1.0, dim)  # float64
    classes = spec.condition
    label = int(stream.randint(len(classes.names))) if isinstance(classes, ClassCondition) else None
    return SeededLatent(latent.astype(np.float32), label)


_streams = threading.local()


def random_state(seed: int) -> np.random.RandomState:
    """`RandomState(seed)`, thirty times as fast: one a thread, seeded anew, which forgets all that it drew."""
    if not hasattr(_streams, "stream"):
        _streams.stream = np.random.RandomState()
    stream: np.random.RandomState = _streams.stream
    stream.seed(seed)
    return stream


def seeds_to_latents(spec: GeneratorSpec, seeds: Sequence[int]) -> tuple[Latents, list[int | None]]:
    """Latents [N, dim] and classes, a row a seed: each row is what its seed gives alone."""
    draws = [seed_to_latent(spec, seed) for seed in seeds]
    return np.stack([each.latent for each in draws]), [each.label for each in draws]


def truncate(latents: Latents, psi: float, mean: Latents | None = None) -> Latents:
    """Move latents toward the `mean` (by default the origin, which is that of z): ψ = 1 leaves them as they are.

    Smaller ψ trades variety for typicality (Karras et al. 2019, https://arxiv.org/abs/1812.04948, appendix B).
    """
    if psi == 1.0:
        return latents
    return latents * np.float32(psi) if mean is None else (latents - mean) * np.float32(psi) + mean
