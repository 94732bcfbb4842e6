"""The fraction of the time in which a GPU computes, as its driver reports it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

_PERIOD_SECONDS = 0.1


@contextmanager
def busy_share(device: torch.device) -> Iterator[Callable[[], dict[str, float]]]:
    """Ask the driver again and again until the block ends. Yield a function that returns the mean of its answers.

    The result is a dict, which is empty on a CPU, and if NVIDIA's package for Python (nvidia-ml-py) is not installed.
    """
    answers: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(_PERIOD_SECONDS):
            answers.append(torch.cuda.utilization(device))

    thread = threading.Thread(target=ask, daemon=True)
    if device.type == "cuda" and find_spec("pynvml"):
        thread.start()
    try:
        yield lambda: {"busy, by the driver": sum(answers) / len(answers) / 100} if answers else {}
    finally:
        stop.set()
        if thread.ident:
            thread.join()
