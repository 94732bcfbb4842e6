"""Everything random in a run, named by what it is for: so a run that goes on needs to remember no generator's state."""

import hashlib

import torch


def seed_for(*names: int | str) -> int:
    """A seed of 63 bits for what `names` tell apart: the run's seed first, then a purpose, then a number."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_default(seed: int) -> None:
    """Seed what networks and views draw from, on the CPU and on CUDA.

    `torch.manual_seed` takes half a millisecond where there is no CUDA: it notes the stack for every kind of device.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.cuda.manual_seed(seed)


def generator_for(*names: int | str) -> torch.Generator:
    """A generator on the CPU, seeded so."""
    return torch.Generator().manual_seed(seed_for(*names))
