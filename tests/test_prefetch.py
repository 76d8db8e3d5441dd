"""An iterator that is read ahead in a thread, and the room that items share."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from threading import Event

import pytest

from vidperson.prefetch import Answers, MemoryBudget, Prefetch

LONG_S = 60  # for what is to come; no test waits so long unless it fails


class Numbers:
    """0, 1, ... as objects of their own; tells when each is begun and made, and when the generator is closed."""

    def __init__(self, count: int) -> None:
        self.begun = [Event() for _ in range(count)]
        self.may_go_on = [Event() for _ in range(count)]
        for event in self.may_go_on:
            event.set()
        self.closed = Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> Iterator[int]:
        self.thread = threading.current_thread()
        try:
            for number, begun in enumerate(self.begun):
                begun.set()
                assert self.may_go_on[number].wait(LONG_S)
                yield number
        finally:
            self.closed.set()


def test_ahead_gives_all_items_in_order_and_then_ends() -> None:
    for most in (1, 2, 100):
        with Prefetch(iter(range(50)), most) as items:
            assert list(items) == list(range(50))
            assert list(items) == []
    with Prefetch(iter(()), 1) as nothing:
        assert list(nothing) == []


def test_ahead_makes_the_next_item_while_one_is_used() -> None:
    numbers = Numbers(3)
    with Prefetch(numbers(), 1) as items:
        assert next(items) == 0
        assert numbers.begun[1].wait(LONG_S)
        assert numbers.thread is not threading.current_thread()


@pytest.mark.parametrize("most", [1, 3])
def test_ahead_begins_no_item_while_as_many_as_allowed_wait(most: int) -> None:
    numbers = Numbers(10)
    with Prefetch(numbers(), most) as items:
        for taken in range(5):
            assert numbers.begun[taken + most - 1].wait(LONG_S)
            assert not numbers.begun[taken + most].wait(0.05)
            assert next(items) == taken


def test_ahead_keeps_no_item_that_was_taken() -> None:
    class Thing:
        pass

    with Prefetch((Thing() for _ in range(3)), 1) as things:
        kept = next(things)
        gone = weakref.ref(kept)
        next(things)
        del kept
        assert gone() is None


def test_error_of_the_source_comes_out_behind_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("three")

    with Prefetch(source(), 5) as items:
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(KeyError, match="three"):
            next(items)
        assert list(items) == []


def test_error_of_an_earlier_stage_comes_out_of_the_last_one() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise MemoryError

    with Prefetch(source(), 1) as first, Prefetch(map(str, first), 1) as second:
        assert next(second) == "1"
        with pytest.raises(MemoryError):
            next(second)


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_closing_ends_source_and_thread_that_wait_for_room(taken: int) -> None:
    numbers = Numbers(10)
    with Prefetch(numbers(), 2) as items:
        for _ in range(taken):
            next(items)
        assert numbers.begun[taken + 1].wait(LONG_S)
    assert numbers.closed.is_set() and not numbers.begun[taken + 3].is_set()
    assert numbers.thread is not None and not numbers.thread.is_alive()
    assert list(items) == []


def test_closing_waits_for_the_item_that_is_being_made() -> None:
    numbers = Numbers(2)
    numbers.may_go_on[0].clear()
    items = Prefetch(numbers(), 1)
    assert numbers.begun[0].wait(LONG_S)
    closing = threading.Thread(target=items.close)
    closing.start()
    assert not numbers.closed.wait(0.05)
    numbers.may_go_on[0].set()
    closing.join(LONG_S)
    assert numbers.closed.is_set() and not numbers.begun[1].is_set() and list(items) == []


def test_closing_stages_from_the_last_to_the_first_ends_all_of_them() -> None:
    before = threading.active_count()
    numbers = Numbers(1000)
    with (
        Prefetch(numbers(), 1) as first,
        Prefetch((number + 1 for number in first), 1) as second,
        Prefetch(map(str, second), 1) as third,
    ):
        assert next(third) == "1"
    assert numbers.closed.is_set() and threading.active_count() == before


def test_silence_gives_its_item_until_the_next_one_is_there() -> None:
    numbers = Numbers(2)
    numbers.may_go_on[0].clear()
    with Prefetch(numbers(), 1, silence=(0.02, -1)) as items:
        assert [next(items), next(items)] == [-1, -1]
        numbers.may_go_on[0].set()
        found = [item for item in items if item != -1]
    assert found == [0, 1]


def test_room_is_waited_for_until_enough_is_given_back() -> None:
    room = MemoryBudget(10)
    taken = [Event() for _ in range(2)]

    def take() -> None:
        room.take(6)
        taken[0].set()
        room.take(4)
        taken[1].set()

    room.take(4)
    room.take(3)
    assert room.has(3) and not room.has(4)
    thread = threading.Thread(target=take)
    thread.start()
    assert not taken[0].wait(0.05)
    room.give(3)
    assert taken[0].wait(LONG_S) and not taken[1].wait(0.05)
    room.give(4)
    assert taken[1].wait(LONG_S)
    thread.join()


def test_item_larger_than_the_room_goes_when_no_other_is_there() -> None:
    room = MemoryBudget(10)
    room.take(1)
    assert not room.has(11)
    room.give(1)
    room.take(11)
    assert not room.has(0) and not room.has(1)


def test_closed_room_lets_everybody_pass() -> None:
    with MemoryBudget(1) as room:
        room.take(1)
        waiting = threading.Thread(target=room.take, args=(1,))
        waiting.start()
        time.sleep(0.02)
        assert waiting.is_alive()
    waiting.join(LONG_S)
    assert not waiting.is_alive()


def test_answers_come_in_order_to_who_waits_for_them_and_none_when_there_are_no_more() -> None:
    answers = Answers[int | None]()
    taken: list[int | None] = []
    waiter = threading.Thread(target=lambda: taken.extend(answers.take() for _ in range(4)))
    with answers:
        waiter.start()
        assert not answers.has()
        for answer in (3, None, 5):
            answers.give(answer)
    waiter.join(60)
    assert taken == [3, None, 5, None] and answers.has() and answers.take() is None
