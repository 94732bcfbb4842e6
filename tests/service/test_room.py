"""How clients share room, in numbers."""

import pytest

from latentd.service.engine import Room


def test_who_is_not_told_from_others_may_take_all() -> None:
    room = Room(8)
    room.take(None, 7)
    assert room.excess(None, 1) == 0
    assert room.excess(None, 3) == 2


def test_a_client_leaves_an_eighth_free() -> None:
    room = Room(64)
    room.take("greedy", 55)
    assert room.excess("greedy", 1) == 0
    assert room.excess("greedy", 2) == 1
    assert room.excess("greedy", 9) == 8
    assert room.excess("other", 9) == 0


@pytest.mark.parametrize("more", [16, 100, 600])
def test_what_is_too_much_is_what_has_to_be_given_back(more: int) -> None:
    room = Room(4096)
    room.take("greedy", 3584)
    room.leave("greedy", room.excess("greedy", more) - 1)
    assert room.excess("greedy", more) == 1
    room.leave("greedy", 1)
    assert room.excess("greedy", more) == 0


def test_who_has_none_may_ask_for_all_that_is_left() -> None:
    assert Room(8).excess("first", 8) == 0
    assert Room(8).excess("first", 9) == 1


@pytest.mark.parametrize("greedy", [1, 2, 5, 20])
def test_something_is_left_however_many_take_what_they_can(greedy: int) -> None:
    room = Room(4096)
    for turn in range(4096):
        client = turn % greedy
        if room.excess(client, 1) <= 0:
            room.take(client, 1)
    held = [room.held(client) for client in range(greedy)]
    assert max(held) - min(held) <= 1
    assert room.taken == sum(held)
    assert room.excess("late", 16) <= 0


def test_what_is_given_back_is_free_again() -> None:
    room = Room(8)
    room.take("one", 7)
    room.leave("one", 7)
    assert (room.taken, room.held("one")) == (0, 0)
    assert room.excess("one", 8) == 0
