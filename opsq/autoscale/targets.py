"""What can be given a size: the pools of a fleet by remote control. Kubernetes is in ``kubernetes.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from opsq.autoscale.fleet_sight import Served
from opsq.errors import OpsqError
from opsq.events.records import WorkerItem


class CannotScale(OpsqError):
    """A target refused, or could not be asked; the size stays as it is and is tried again at the next tick."""


class Size(msgspec.Struct, frozen=True):
    """Slots asked for, and how many of them are starting."""

    slots: int
    starting: int = 0


class Target(Protocol):
    """A thing with a size in slots. Thread: the controller's. Raises: CannotScale, every method."""

    def size(self, seen: Served) -> Size:
        """How large it is; seen: the workers that the monitor sees."""
        ...

    def resize(self, slots: int, seen: Served) -> None:
        """Have this many slots. Running tasks go on."""
        ...


#: (command, arguments, nodes, number of answers) → answer by node.
Order = Callable[[str, Mapping[str, Any], Sequence[str], int], Mapping[str, Any]]
#: A worker's pool has at least one slot.
LEAST: Final = 1


class NoTarget:
    """Nothing is changed: decisions are only told, and served as metrics."""

    def size(self, seen: Served) -> Size:
        """As the workers say."""
        return Size(seen.slots)

    def resize(self, slots: int, seen: Served) -> None:
        """Nothing."""


class FleetTarget:
    """The pools of all workers of a group. order: sends a remote command and waits for the answers."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def size(self, seen: Served) -> Size:
        """As the workers say."""
        return Size(seen.slots)

    def resize(self, slots: int, seen: Served) -> None:
        """Spread the slots evenly; a worker that scales itself is given its share as its bounds."""
        if not seen.workers:
            raise CannotScale("no worker of the group is alive")
        refused = []
        for worker, share in shares(slots, seen.workers).items():
            have = next(one.slots or 0 for one in seen.workers if one.name == worker)
            if share == have:
                continue
            command = "pool_grow" if share > have else "pool_shrink"
            answer = self._ask(command, {"n": abs(share - have)}, worker)
            if isinstance(answer, dict) and "Adjust autoscale range" in str(answer.get("error")):
                answer = self._ask("autoscale", {"max": share, "min": share}, worker)
            if not isinstance(answer, dict) or "error" in answer:
                refused.append(f"{worker}: {answer.get('error') if isinstance(answer, dict) else 'no answer'}")
        if refused:
            raise CannotScale("; ".join(refused))

    def _ask(self, command: str, arguments: Mapping[str, Any], worker: str) -> Any:
        try:
            return self._order(command, arguments, [worker], 1).get(worker)
        except OpsqError as error:
            raise CannotScale(str(error)) from error


def shares(slots: int, workers: Sequence[WorkerItem]) -> dict[str, int]:
    """Each worker's part of ``slots``: as even as can be, at least one each, what is over to those that have most."""
    names = [one.name for one in sorted(workers, key=lambda one: (-(one.slots or 0), one.name))]
    each, over = divmod(max(slots, LEAST * len(names)), len(names))
    return {name: each + (place < over) for place, name in enumerate(names)}
