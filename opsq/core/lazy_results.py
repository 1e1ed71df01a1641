"""The handles of a very large group: made when asked for, from the group's id and the position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from opsq.core.canvas_stream import member_id
from opsq.core.result import AsyncResult
from opsq.core.result_set import LazyHandles, result_from_ref
from opsq.wire.result import ResultRef

if TYPE_CHECKING:
    from opsq.core.app import Opsq


class LazyResults(LazyHandles):
    """``size`` handles. others: those of members whose id does not follow from their place."""

    def __init__(self, group_id: str, others: Mapping[int, ResultRef], size: int, app: Opsq) -> None:
        self._group_id = group_id
        self._others = others
        self._size = size
        self._app = app

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._at(each) for each in range(*index.indices(self._size))]
        place = index + self._size if index < 0 else index
        if not 0 <= place < self._size:
            raise IndexError(f"the group has {self._size} members, there is no {index}")
        return self._at(place)

    def __iter__(self) -> Iterator[Any]:
        return map(self._at, range(self._size))

    def _at(self, index: int) -> Any:
        ref = self._others.get(index)
        if ref is not None:
            return result_from_ref(ref, self._app)
        return AsyncResult(member_id(self._group_id, index), app=self._app)
