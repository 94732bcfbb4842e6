import pytest

from latentd.service.engine.rate import RateMeter


def test_idle_time_does_not_count_and_overlapping_time_counts_once() -> None:
    now = 0.0
    meter = RateMeter(clock=lambda: now)
    assert meter.seconds_for(100) == 0
    now = 1.0
    meter.add(10, started=0.0)
    assert meter.seconds_for(100) == pytest.approx(10)
    now = 100.0  # after a long pause, ten more in a second
    meter.add(10, started=99.0)
    assert meter.seconds_for(100) == pytest.approx(10)
    now = 101.0  # two side by side
    meter.add(10, started=100.0)
    meter.add(10, started=100.0)
    assert meter.seconds_for(100) < 10


def test_the_last_batches_count_most() -> None:
    now = 0.0
    meter = RateMeter(clock=lambda: now)
    for seconds in [1.0] * 50 + [10.0] * 100:
        started, now = now, now + seconds
        meter.add(10, started)
    assert meter.seconds_for(10) == pytest.approx(10, rel=0.05)
