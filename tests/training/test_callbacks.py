"""Callbacks: their order, their time, and what happens if one fails."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

import latentd
from latentd.models.errors import LatentdError
from latentd.training.run import runner
from latentd.training.run.callback import ActiveRun, Callback, EvaluationResult, PeriodicCallback
from latentd.training.run.callback_handler import CallbackHandler
from latentd.training.run.callback_list import make_callbacks
from latentd.training.run.checkpoint_manager import CheckpointManager
from latentd.training.run.directory import read_metrics
from tests.conftest import card_of, points_spec
from tests.training.runs import run_config, train
from tests.training.test_idx import write_idx


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Noted(Callback):
    """Notes its calls in a list that several share."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self._name = name
        self._notes = notes

    def on_start(self, run: ActiveRun) -> None:
        self._notes.append(f"{self._name} starts")

    def on_step(self, run: ActiveRun) -> None:
        self._notes.append(f"{self._name} step {run.step}")

    def on_log(self, run: ActiveRun, kind: str, values: Mapping[str, Any]) -> None:
        self._notes.append(f"{self._name} hears {kind} {values}")

    def on_end(self, run: ActiveRun) -> None:
        self._notes.append(f"{self._name} {run.status}")


class Slow(PeriodicCallback):
    """Needs three seconds each time."""

    time_fraction = 0.1

    def __init__(self, clock: Clock, every: int = 1) -> None:
        self.steps: list[int] = []
        self._clock = clock
        self._every = every

    def is_due(self, run: ActiveRun) -> bool:
        return run.step % self._every == 0

    def act(self, run: ActiveRun) -> None:
        self.steps.append(run.step)
        self._clock.seconds += 3.0


class Failing(Callback):
    """Fails in everything but its start. Each call takes some seconds."""

    def __init__(self, error: Exception, clock: Clock, seconds: float = 0.0) -> None:
        self.calls = 0
        self._error = error
        self._clock = clock
        self._seconds = seconds

    def on_step(self, run: ActiveRun) -> None:
        self.calls += 1
        self._clock.seconds += self._seconds
        raise self._error

    def on_end(self, run: ActiveRun) -> None:
        self.on_step(run)


def handle(clock: Clock, *callbacks: Callback, steps: int = 100) -> CallbackHandler:
    """Return the started handler of a run without networks and data."""
    nothing = cast(Any, None)
    run = ActiveRun(Path("run.safetensors"), card_of(points_spec()), nothing, nothing, steps)
    handler = CallbackHandler(callbacks, run, clock)
    handler.start()
    return handler


def do_steps(handler: CallbackHandler, clock: Clock, steps: Sequence[int]) -> None:
    """Do these steps, each in one second."""
    for step in steps:
        clock.seconds += 1.0
        handler.step(step, {"generator": 1.0})


def test_callbacks_are_called_in_order_and_hear_each_other() -> None:
    notes: list[str] = []

    class Measuring(Noted):
        def on_step(self, run: ActiveRun) -> None:
            super().on_step(run)
            run.log("mine", {"seconds": run.seconds})

    clock = Clock()
    handler = handle(clock, Measuring("a", notes), Noted("b", notes), steps=1)
    do_steps(handler, clock, [1])
    handler.end(1)
    assert notes == [
        *("a starts", "b starts", "a step 1"),
        *("a hears mine {'seconds': 1.0}", "b hears mine {'seconds': 1.0}"),
        *("b step 1", "a finished", "b finished"),
    ]


def test_slow_work_is_postponed_and_the_end_always_has_it() -> None:
    clock = Clock()
    slow = Slow(clock)
    handler = handle(clock, slow)
    do_steps(handler, clock, range(1, 51))
    assert slow.steps == [1, 2, 32]  # the first time does not count; then 3 s of 30 s
    handler.end(50)
    assert slow.steps == [1, 2, 32, 50]


def test_work_that_was_due_is_done_as_soon_as_there_is_time() -> None:
    clock = Clock()
    slow = Slow(clock, every=20)
    handler = handle(clock, slow)
    do_steps(handler, clock, range(1, 101))
    assert slow.steps == [20, 40, 70]  # due at 60, with time at 70
    handler.end(100)
    assert slow.steps == [20, 40, 70, 100]


def test_the_end_does_not_repeat_what_was_done_at_this_step_or_before_the_first() -> None:
    clock = Clock()
    done, none = Slow(clock), Slow(clock)
    handler = handle(clock, done)
    do_steps(handler, clock, [1])
    handler.end(1)
    handle(clock, none).end(0)
    assert (done.steps, none.steps) == ([1], [])


def test_a_failing_callback_is_named_once_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    notes: list[str] = []
    clock = Clock()
    failing = Failing(ZeroDivisionError("no\nway"), clock)
    handler = handle(clock, failing, Noted("other", notes))
    do_steps(handler, clock, [1, 2, 3])
    handler.end(3)
    assert failing.calls == 4
    assert notes[-4:] == ["other step 1", "other step 2", "other step 3", "other stopped"]
    (line,) = [record.message for record in caplog.records]
    assert "ZeroDivisionError: no way (test_callbacks.py:" in line
    assert "(Failing, step 1; said once)" in line


def test_the_failure_of_a_required_callback_ends_the_run() -> None:
    class Required(Failing):
        required = True

    clock = Clock()
    handler = handle(clock, Required(OSError("disk full"), clock))
    with pytest.raises(OSError, match="disk full"):
        do_steps(handler, clock, [1])


def test_a_required_callback_that_another_one_tells_something_ends_the_run_too() -> None:
    class Measuring(Callback):
        def on_step(self, run: ActiveRun) -> None:
            run.log("mine", {"value": 1.0})

    class Required(Callback):
        required = True

        def on_log(self, run: ActiveRun, kind: str, values: Mapping[str, Any]) -> None:
            raise OSError("disk full")

    clock = Clock()
    handler = handle(clock, Measuring(), Required())
    with pytest.raises(OSError, match="disk full"):
        do_steps(handler, clock, [1])


def test_a_service_that_does_not_answer_takes_a_sixtieth_of_the_time() -> None:
    clock = Clock()
    service = Failing(ConnectionError("no answer"), clock, seconds=10.0)
    handler = handle(clock, service, steps=10_000)
    do_steps(handler, clock, range(1, 1201))
    assert service.calls == 2
    handler.end(1200)
    assert service.calls == 3


def test_a_service_that_answers_again_gets_what_is_measured_at_the_end() -> None:
    class Measuring(Callback):
        def on_end(self, run: ActiveRun) -> None:
            run.log("figures", {"divergence": 0.5})

    class Service(Callback):
        def __init__(self) -> None:
            self.kinds: list[str] = []

        def on_step(self, run: ActiveRun) -> None:
            clock.seconds += 10.0
            raise ConnectionError("no answer")

        def on_log(self, run: ActiveRun, kind: str, values: Mapping[str, Any]) -> None:
            self.kinds.append(kind)

    clock = Clock()
    service = Service()
    handler = handle(clock, Measuring(), service)
    do_steps(handler, clock, [1, 2])
    handler.end(2)
    assert service.kinds == ["figures"]


def test_what_the_user_can_fix_ends_the_start_and_other_failures_do_not(caplog: pytest.LogCaptureFixture) -> None:
    class FailsToStart(Noted):
        def __init__(self, error: Exception, notes: list[str]) -> None:
            super().__init__("failed", notes)
            self._error = error

        def on_start(self, run: ActiveRun) -> None:
            raise self._error

    notes: list[str] = []
    clock = Clock()
    handler = handle(clock, FailsToStart(ConnectionError("no route"), notes), Noted("other", notes))
    do_steps(handler, clock, [1])
    assert notes == ["other starts", "other step 1"]
    assert "the run goes on without FailsToStart: no route" in caplog.text
    with pytest.raises(LatentdError, match="install it"):
        handle(clock, FailsToStart(LatentdError("install it"), notes))


@pytest.mark.parametrize("name", ["ring-gan", "fashion-dcgan-conditional"])
def test_callbacks_do_not_change_what_is_learned(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["steps=30", "batch_size=16", "discriminator.config.dropout=0.2", "discriminator.config.norm=spectral"]
    if name != "ring-gan":
        write_idx(tmp_path / "data", count=110)
        settings = ["steps=6", "batch_size=8", "generator.config.width=8", "discriminator.config.width=8"]
        settings += ["augment.views=['flip', 'translation']", "augment.target=0.1", "data.flip=true"]
    data = tmp_path / "data" if name != "ring-gan" else None

    def only_checkpoints(*parts: Any) -> list[Callback]:
        return [each for each in make_callbacks(*parts) if isinstance(each, CheckpointManager)]

    with monkeypatch.context() as patched:
        patched.setattr(runner, "make_callbacks", only_checkpoints)
        unseen = train(run_config(name, tmp_path / "unseen", *settings, data=data))
    assert not (tmp_path / "unseen" / "metrics.jsonl").exists()
    for callback in PeriodicCallback.__subclasses__():
        monkeypatch.setattr(callback, "time_fraction", math.inf)
    monkeypatch.setattr("latentd.training.run.evaluation._MIN_STEPS", 2)
    seen = train(run_config(name, tmp_path / "seen", *settings, data=data))
    readings = [line["step"] for line in read_metrics(tmp_path / "seen") if "vitals" in line]
    assert readings == list(range(1, seen.card.steps + 1))
    assert seen.version == unseen.version


def test_a_callback_of_the_users_own_sees_the_run_and_logs_to_it(tmp_path: Path) -> None:
    class Best(latentd.Callback):
        def __init__(self) -> None:
            self.divergences: list[float] = []
            self.version = ""

        def on_evaluation(self, run: latentd.ActiveRun, result: EvaluationResult) -> None:
            self.divergences.append(result.metrics["divergence"])
            run.log("mine", {"best": min(self.divergences)})

        def on_end(self, run: latentd.ActiveRun) -> None:
            assert run.checkpoint
            self.version = run.checkpoint.version

    mine = Best()
    run = latentd.train("ring-gan", out=tmp_path, device="cpu", steps=3, batch_size=16, callbacks=[mine])
    assert mine.divergences == [run.metrics["divergence"]]
    assert mine.version == run.load("cpu").version
    lines = [line for line in read_metrics(tmp_path) if "mine" in line]
    assert [(line["step"], line["mine"]) for line in lines] == [(3, {"best": mine.divergences[0]})]
    with pytest.raises(ValueError, match="callbacks are instances"):
        latentd.train("ring-gan", out=tmp_path, callbacks=[Best])  # type: ignore[list-item]  # on purpose
