"""The engine alone, with a generator that a test can hold still."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.checkpoint import Checkpoint
from models.family import Generator
from models.sampling import MICROBATCH
from service.catalog import ServedModel
from service.engine import Engine, EngineClosedError, QueueFullError
from tests.conftest import card_of, image_spec, points_spec

SPEC = points_spec()


class Held(Generator):
    """Gives the first two latent numbers back; notes each batch and waits at the gate before it answers."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.weight = nn.Parameter(torch.zeros(1))
        self.batches: list[list[float]] = []
        self.arrived = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.fails = False

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        assert len(z) == MICROBATCH
        self.batches.append([value for value in z[:, 0].tolist() if value])
        self.arrived.release()
        assert self.gate.acquire(timeout=10)
        if self.fails:
            raise RuntimeError("the model broke")
        return z[:, :2]


def served(generator: Generator, name: str = "held") -> ServedModel:
    return ServedModel(name, "0" * 12, card_of(SPEC), generator, {})


def rows(*values: float) -> np.ndarray:
    latents = np.zeros((len(values), 8), dtype=np.float32)
    latents[:, 0] = values
    return latents


def first_numbers(future: Future[np.ndarray]) -> list[float]:
    return future.result(timeout=10)[:, 0].tolist()


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(max_queue=100)
    engine.start()
    yield engine
    engine.close()


def submit(engine: Engine, model: ServedModel, *values: float) -> Future[np.ndarray]:
    return engine.submit(model, rows(*values), [None] * len(values))


@pytest.fixture
def busy(engine: Engine) -> tuple[Held, ServedModel, Future[np.ndarray]]:
    """An engine in the middle of a forward pass for one row of 99."""
    held = Held()
    model = served(held)
    future = submit(engine, model, 99)
    assert held.arrived.acquire(timeout=10)
    return held, model, future


def release(held: Held, count: int = 100) -> None:
    held.gate.release(count)


def test_a_lone_request_is_computed_at_once(engine: Engine) -> None:
    held = Held()
    release(held)
    assert first_numbers(submit(engine, served(held), 1, 2)) == [1, 2]
    assert held.batches == [[1, 2]]


def test_what_arrives_while_the_device_is_busy_shares_a_batch(engine: Engine, busy: tuple) -> None:
    held, model, first = busy
    futures = [submit(engine, model, value) for value in (1, 2, 3)]
    release(held)
    assert [first_numbers(future) for future in [first, *futures]] == [[99], [1], [2], [3]]
    assert held.batches == [[99], [1, 2, 3]]


def test_a_large_request_is_split_and_lets_a_small_one_in(engine: Engine, busy: tuple) -> None:
    held, model, _ = busy
    large = submit(engine, model, *range(1, 41))
    small = submit(engine, model, 77)
    release(held)
    assert first_numbers(large) == list(range(1, 41))
    assert first_numbers(small) == [77]
    assert held.batches[1] == list(range(1, 17))
    assert 77 in held.batches[2]


def test_models_take_turns(engine: Engine, busy: tuple) -> None:
    held, model, _ = busy
    other = Held()
    order: list[str] = []
    futures = [submit(engine, model, *range(1, 41)), submit(engine, served(other, "other"), *range(1, 41))]
    for name, each in (("a", held), ("b", other)):
        each.register_forward_hook(lambda *_, name=name: order.append(name))
    release(held)
    release(other)
    for future in futures:
        assert first_numbers(future) == list(range(1, 41))
    assert order == ["a", "b"] * 3


def test_a_full_queue_refuses_and_recovers(engine: Engine, busy: tuple) -> None:
    held, model, _ = busy
    waiting = submit(engine, model, *range(1, 65))
    with pytest.raises(QueueFullError, match="64 samples are waiting"):
        submit(engine, model, *range(1, 38))
    release(held)
    assert first_numbers(waiting) == list(range(1, 65))
    assert first_numbers(submit(engine, model, 5)) == [5]


def test_cancelled_rows_are_not_computed(engine: Engine, busy: tuple) -> None:
    held, model, _ = busy
    dropped = submit(engine, model, *range(1, 61))
    kept = submit(engine, model, 70)
    assert dropped.cancel()
    after = submit(engine, model, *range(1, 100))  # the dropped ones have left the queue
    release(held)
    assert first_numbers(kept) == [70]
    assert first_numbers(after) == list(range(1, 100))
    assert held.batches[1][0] == 70
    with pytest.raises(CancelledError):
        dropped.result()


def test_a_model_that_breaks_fails_its_batch_and_not_the_next(
    engine: Engine, busy: tuple, caplog: pytest.LogCaptureFixture
) -> None:
    held, model, first = busy
    with_it = submit(engine, model, *range(1, 41))
    assert engine.alive
    held.fails = True
    release(held, 2)
    for future in (first, with_it):
        with pytest.raises(RuntimeError, match="the model broke"):
            future.result(timeout=10)
    held.fails = False
    assert "the model broke" in caplog.text
    release(held)
    assert first_numbers(submit(engine, model, 5)) == [5]


def test_closing_finishes_what_is_queued(busy: tuple, engine: Engine) -> None:
    held, model, first = busy
    queued = submit(engine, model, *range(1, 41))
    release(held)
    engine.close()
    assert first_numbers(first) == [99]
    assert first_numbers(queued) == list(range(1, 41))
    with pytest.raises(EngineClosedError):
        submit(engine, model, 1)


@pytest.mark.parametrize("conditional", [False, True])
def test_bytes_do_not_depend_on_the_batch(conditional: bool, write: Callable[..., Checkpoint], engine: Engine) -> None:
    checkpoint = write(image_spec(conditional=conditional))
    model = ServedModel("m", checkpoint.version, checkpoint.card, checkpoint.build(), {})
    latents = np.random.RandomState(0).standard_normal((48, 8)).astype(np.float32)
    labels = [index % 3 if conditional else None for index in range(48)]
    together = engine.submit(model, latents, labels).result(timeout=30)
    futures = [engine.submit(model, latents[i : i + 1], labels[i : i + 1]) for i in range(48)]
    for index, future in enumerate(futures):
        assert np.array_equal(future.result(timeout=30)[0], together[index])
