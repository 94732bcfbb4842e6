"""Seeds derived from names, so that a run that resumes needs no saved state of random generators."""

import hashlib

import torch


def seed_for(*names: int | str) -> int:
    """Return the 63-bit seed of a purpose. By convention `names` are the run's seed, a word, and numbers.

    Other names give other seeds, so changing a word changes the bits of every run that uses it.
    """
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_default(seed: int) -> None:
    """Seed the default generators of the CPU and of CUDA.

    `torch.manual_seed` is not used: without CUDA it takes half a millisecond, because it records a stack trace for
    every kind of device.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.cuda.manual_seed(seed)


def generator_for(*names: int | str) -> torch.Generator:
    """Return a CPU generator seeded with `seed_for(*names)`."""
    return torch.Generator().manual_seed(seed_for(*names))
