"""Tasks of a group that are still being made: kept as the generator that makes them.

A group of a million tasks is published a batch at a time, so the client never holds them all. Whatever
needs them twice (a copy, a chain, ``len``) makes the list first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any


def is_lazy(tasks: object) -> bool:
    """Whether these can be gone through only once."""
    return isinstance(tasks, Iterator)


class LazyTasks(Sequence[Any]):
    """A generator of tasks, or the list that was made of it. read: makes a signature of each."""

    def __init__(self, tasks: Iterable[Any], read: Callable[[Any], Any]) -> None:
        self._rest: Iterator[Any] = map(read, tasks)
        self._seen: list[Any] = []

    def __repr__(self) -> str:
        return "<tasks to come>"

    def peek(self) -> Any:
        """The first task, or none; it stays the first."""
        if not self._seen:
            for task in self._rest:
                self._seen.append(task)
                break
        return self._seen[0] if self._seen else None

    def once(self) -> Iterator[Any]:
        """Go through the tasks and keep none of them."""
        while self._seen:
            yield self._seen.pop(0)
        yield from self._rest

    def as_list_of_tasks(self) -> list[Any]:
        """All tasks, made now."""
        self._seen.extend(self._rest)
        return self._seen

    def __len__(self) -> int:
        return len(self.as_list_of_tasks())

    def __getitem__(self, index: Any) -> Any:
        return self.as_list_of_tasks()[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.as_list_of_tasks())
