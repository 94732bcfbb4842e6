"""How many threads the engine has for a device."""

import torch

from latentd.models.hardware import core_count


def engine_threads(device: torch.device) -> dict[str, int]:
    """Return how many forward passes run side by side, how many are launched ahead, and how many threads encode.

    On a CPU, every core computes and encodes a batch of its own on one thread, so that passes never wait for each
    other's threads. OMP_NUM_THREADS gives a pass more threads; if only one pass runs then, another thread encodes. A
    GPU runs one pass after another. The next pass is always launched already, so that the GPU never waits for Python.
    The CPU's cores encode.
    """
    if device.type == "cuda":
        return {"parallel": 1, "ahead": 1, "encoders": core_count()}
    parallel = max(1, core_count() // torch.get_num_threads())
    return {"parallel": parallel, "encoders": 1 if parallel == 1 else 0}
