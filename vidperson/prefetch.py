"""Work in other threads while its results are used: an iterator that is read ahead, answers, and a memory budget.

Stages of a pipeline are generators; ``Prefetch`` between two of them lets both go on at the same time:
``with Prefetch(decoded(paths), 4) as frames, Prefetch(prepared(frames), 2) as batches: ...``
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from threading import Condition, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Iterator[T], Generic[T]):
    """The items of an iterator, in order, which is used up in a thread of its own.

    source: it runs in the thread from the first item to its end; a generator is closed there.
    most: it does not begin with an item while so many that are ready wait to be taken.
    silence: (seconds, item): this item is given, too, whenever the next one is not there after so many seconds.

    An exception of the source comes out in its place, behind the items before it. ``close`` ends source and thread
    behind the item that is being made; there are no items after it.
    """

    def __init__(self, source: Iterator[T], most: int, silence: tuple[float, T] | None = None) -> None:
        self._source, self._most, self._silence = source, most, silence
        self._ready: deque[T] = deque()
        self._error: BaseException | None = None
        self._closed = self._ended = False
        self._change = Condition()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while self._may_go_on():
                item = next(self._source)
                with self._change:
                    self._ready.append(item)
                    self._change.notify_all()
                del item  # whoever takes it is the only one to keep it
            if isinstance(self._source, Generator):
                self._source.close()
        except StopIteration:
            pass
        except BaseException as raised:  # whatever it is, it belongs to the thread that uses the items
            error = raised
        with self._change:
            self._error, self._ended = error, True
            self._change.notify_all()

    def _may_go_on(self) -> bool:
        """Waits until another item may wait; False when none is wanted any more."""
        with self._change:
            self._change.wait_for(lambda: self._closed or len(self._ready) < self._most)
            return not self._closed

    def __next__(self) -> T:
        seconds = self._silence[0] if self._silence else None
        with self._change:
            heard = self._change.wait_for(lambda: self._ready or self._ended, seconds)
            if not heard and self._silence:
                return self._silence[1]
            if self._ready:
                item = self._ready.popleft()
                self._change.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """Waits until the thread has ended."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join()
        self._ready.clear()
        self._error = None

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Answers(Generic[T]):
    """What one thread finds out and another one waits for, in order."""

    def __init__(self) -> None:
        self._ready: deque[T] = deque()
        self._closed = False
        self._change = Condition()

    def has(self) -> bool:
        """Whether ``take`` would not wait."""
        return self._closed or bool(self._ready)

    def give(self, answer: T) -> None:
        """The next answer."""
        with self._change:
            self._ready.append(answer)
            self._change.notify_all()

    def take(self) -> T | None:
        """Waits for the next answer; None when there will be none."""
        with self._change:
            self._change.wait_for(self.has)
            return self._ready.popleft() if self._ready else None

    def close(self) -> None:
        """Nobody has to wait any more."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def __enter__(self) -> Answers[T]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class MemoryBudget:
    """Memory that items share while they are under way; one that is larger than all of it goes alone.

    size: in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._used = 0
        self._closed = False
        self._change = Condition()

    def has(self, size: int) -> bool:
        """Whether ``take`` would not wait."""
        return self._closed or not self._used or self._used + size <= self.size

    def take(self, size: int) -> None:
        """Waits until so many bytes are free, and takes them."""
        with self._change:
            self._change.wait_for(lambda: self.has(size))
            self._used += size

    def give(self, size: int) -> None:
        """Gives back what was taken."""
        with self._change:
            self._used -= size
            self._change.notify_all()

    def close(self) -> None:
        """Nobody has to wait any more."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def __enter__(self) -> MemoryBudget:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
