"""How much of the time a GPU computes, as its driver sees it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

_PERIOD_SECONDS = 0.1


@contextmanager
def busy_share(device: torch.device) -> Iterator[Callable[[], dict[str, float]]]:
    """Ask the driver in this block. The function that is given returns the mean of its answers, in a dict.

    The dict is empty on a CPU, and if NVIDIA's package for Python (nvidia-ml-py) is not installed.
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
