"""Learning-rate schedules against values worked out by hand."""

import pytest

from latentd.training.schedule import schedule


def test_the_factor_is_1_by_default() -> None:
    assert {schedule(10)(step) for step in range(1, 11)} == {1.0}


def test_warmup_rises_to_one() -> None:
    factor = schedule(10, warmup=4)
    assert [factor(step) for step in range(1, 7)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_linear_decay_reaches_zero_after_the_last_step() -> None:
    factor = schedule(8, "linear", decay_from=0.5)
    assert [factor(step) for step in range(1, 10)] == [1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_cosine_decay() -> None:
    factor = schedule(4, "cosine")
    assert [factor(step) for step in (1, 2, 3, 4, 5)] == pytest.approx([1.0, 0.853553, 0.5, 0.146447, 0.0], abs=1e-6)


def test_warmup_and_decay_together() -> None:
    assert schedule(4, "linear", warmup=2)(2) == 0.75
    assert schedule(4, "linear", warmup=2)(1) == 0.5
