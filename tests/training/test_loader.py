"""Prefetching on a thread."""

import threading
from collections.abc import Iterator
from itertools import count, islice

import pytest

from latentd.training.data.loader import prefetch
from tests.conftest import eventually


def threads() -> int:
    return sum(thread.name == "latentd-prefetch" for thread in threading.enumerate())


def test_items_come_in_order_and_the_thread_ends() -> None:
    items = prefetch(count())
    assert list(islice(items, 50)) == list(range(50))
    assert threads() == 1
    items.close()  # type: ignore[attr-defined]  # a generator
    eventually(lambda: threads() == 0)


def test_an_exception_is_raised_in_place_of_the_item() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    items = prefetch(failing())
    assert next(items) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)
