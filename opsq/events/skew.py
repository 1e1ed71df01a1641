"""How far the clocks of other machines are from ours, from when their events came.

An event cannot come before it was sent: the smallest ``received − sent`` seen of a machine, over a while, is its
clock's distance plus the quickest delivery. Brokers deliver within milliseconds, and a monitor that is behind is so by
seconds; what is beyond that is the clock's. Rows keep the times as they were sent, for two monitors must store the
same; what is shown and what spans two machines is corrected when it is read.

Thread: ``heard`` the writer's; reading from any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

WINDOW_S: Final = 60.0
WINDOWS: Final = 5
#: An event from the future by more than this was sent by a wrong clock.
AHEAD_S: Final = 0.25
#: One from the past may have waited, here or in the broker; by more than this, always, it has not.
BEHIND_S: Final = 10.0
#: So many messages before anything is concluded.
ENOUGH: Final = 5
MOST_MACHINES: Final = 5_000


class Machine(msgspec.Struct):
    """Smallest ``received − sent`` of each of the last windows, oldest first, as (window, seconds).

    heard: how many messages that is taken from.
    """

    smallest: list[tuple[int, float]]
    heard: int = 1


class Skews:
    """The clocks of a cluster's machines, by the part of a node name after the ``@``."""

    def __init__(self) -> None:
        self._machines: dict[str, Machine] = {}

    def heard(self, node: str, sent_at: float, received_at: float) -> None:
        """Note one event; give the latest one of a message, whose delay is the smallest."""
        name = machine_of(node)
        machine = self._machines.get(name)
        delay_s, window = received_at - sent_at, int(received_at / WINDOW_S)
        if machine is None:
            if len(self._machines) < MOST_MACHINES:
                self._machines[name] = Machine([(window, delay_s)])
            return
        machine.heard += 1
        known = machine.smallest
        if known[-1][0] == window:
            if delay_s < known[-1][1]:
                known[-1] = (window, delay_s)
            return
        machine.smallest = [*(each for each in known if each[0] > window - WINDOWS), (window, delay_s)]

    def ahead_s(self, node: str) -> float | None:
        """How far the clock of a node's machine is ahead of ours (negative: behind); ``None`` when unheard.

        0.0 when it is too little to tell from the way the events took.
        """
        machine = self._machines.get(machine_of(node))
        if machine is None:
            return None
        # The newest two windows: a clock that was set right must not be corrected for long.
        smallest = min(delay_s for _, delay_s in machine.smallest[-2:])
        if machine.heard < ENOUGH or -AHEAD_S <= smallest <= BEHIND_S:
            return 0.0
        return -smallest

    def corrected(self, node: str, at: float) -> float:
        """A time of that node's clock by ours; unchanged when nothing is known."""
        ahead_s = self.ahead_s(node)
        return at - ahead_s if ahead_s else at

    def copy(self) -> Mapping[str, float]:
        """Every machine whose clock is noticeably off, with how far it is ahead, in seconds."""
        found = {name: self.ahead_s(f"@{name}") for name in list(self._machines)}
        return {name: ahead_s for name, ahead_s in found.items() if ahead_s}


def machine_of(node: str) -> str:
    """The machine of a node: what follows the ``@``."""
    return node.partition("@")[2] or node
