"""The latent space: from an integer seed to a latent, and to a class if the request leaves it open.

The random streams are NumPy's legacy `RandomState`, which NumPy has frozen (NEP 19) and StyleGAN's tools use too, so a
seed names the same latent in every version of latentd.
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
    """A latent and a class index drawn from one seed."""

    latent: Latents
    """[dim], float32."""
    label: int | None
    """None for a generator without classes."""


def seed_to_latent(spec: GeneratorSpec, seed: int) -> SeededLatent:
    """Return the latent of `seed` (0 to 2**32 - 1), and the class that it names if a request names none.

    The class is drawn after the latent, from the same stream. Raises ValueError if the seed is out of range.
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
    """Return `RandomState(seed)`, in a thirtieth of the time: each thread has one, which is seeded again.

    Use it before the next call in the same thread.
    """
    if not hasattr(_streams, "stream"):
        _streams.stream = np.random.RandomState()
    stream: np.random.RandomState = _streams.stream
    stream.seed(seed)
    return stream


def seeds_to_latents(spec: GeneratorSpec, seeds: Sequence[int]) -> tuple[Latents, list[int | None]]:
    """Return latents [N, dim] and N classes. Each row is what `seed_to_latent` gives for its seed."""
    draws = [seed_to_latent(spec, seed) for seed in seeds]
    return np.stack([draw.latent for draw in draws]), [draw.label for draw in draws]


def truncate(latents: Latents, psi: float, mean: Latents | None = None) -> Latents:
    """Scale latents' distance from `mean` (default: the origin, which is the mean of z) by ψ; 1 changes nothing.

    A smaller ψ trades variety for fidelity (Karras et al. 2019, https://arxiv.org/abs/1812.04948, appendix B).
    """
    if psi == 1.0:
        return latents
    return latents * np.float32(psi) if mean is None else (latents - mean) * np.float32(psi) + mean
