"""A device that a test can hold still."""

import threading
from typing import Any

import numpy as np

from latentd.models.card import Card
from latentd.models.sampling import StageInput
from latentd.models.spec import GeneratorSpec
from latentd.service.catalog import Deployment, ServedModel
from latentd.service.engine import Calibration, ForwardResult, StageExecutor
from tests.conftest import card_of, points_spec

SIZE = 16


class HeldRunner:
    """Gives the first two latent numbers of each row; notes each pass, and waits at the gate before it answers."""

    def __init__(self) -> None:
        self.passes: list[list[float]] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.problem: Exception | None = None

    def run(self, rows: StageInput, size: int) -> ForwardResult:
        assert len(rows) <= size
        self.passes.append(rows.latents[:, 0].tolist())
        self.begun.release()
        assert self.gate.acquire(timeout=10)
        if self.problem is not None:
            raise self.problem
        return ForwardResult(rows.latents[:, :2].copy(), size, 0.25)

    def release(self, count: int = 1000) -> None:
        self.gate.release(count)

    def wait_for_pass(self) -> None:
        assert self.begun.acquire(timeout=10)


def calibration(*sizes: int) -> Calibration:
    """Sizes whose passes all take the same time a sample, with a little for each pass."""
    return Calibration("bitwise", {size: 1.0 + 0.1 * size for size in sizes or (SIZE,)})


def executor(runner: HeldRunner, *sizes: int, name: str = "held") -> StageExecutor:
    return StageExecutor(name, runner, calibration(*sizes))


def served(
    executor: StageExecutor | None, name: str = "m", spec: GeneratorSpec | None = None, **changes: Any
) -> ServedModel:
    card: Card = card_of(spec or points_spec())
    facts: dict[str, Any] = {
        "name": name,
        "version": "0" * 12,
        "card": card,
        "file": None,
        "open_file": None,
        "weight_bytes": 100,
        "calibrations": [calibration()],
        "fingerprint": {"threads": 1, "determinism": "bitwise"},
        "deployment": executor and Deployment(executor),
    }
    return ServedModel(**facts | changes)


def rows(*values: float) -> StageInput:
    latents = np.zeros((len(values), 8), dtype=np.float32)
    latents[:, 0] = values
    return StageInput(latents, None)


def first_numbers(results: list[Any]) -> list[float]:
    return [float(sample[0]) for sample in results]
