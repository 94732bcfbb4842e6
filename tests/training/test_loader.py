"""Batches that are made ahead."""

import threading
import time
from collections.abc import Iterator
from itertools import count, islice

import pytest

from latentd.training.loader import ahead


def threads() -> int:
    return sum(thread.name == "latentd-feed" for thread in threading.enumerate())


def test_the_same_items_in_order_and_no_thread_is_left() -> None:
    items = ahead(count())
    assert list(islice(items, 50)) == list(range(50))
    assert threads() == 1
    items.close()  # type: ignore[attr-defined]  # a generator
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == 0


def test_what_goes_wrong_is_raised_in_its_place() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    items = ahead(failing())
    assert next(items) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)
