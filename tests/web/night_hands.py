"""Hands of the night's monitor: they know its schedule, and refuse to do anything, because there is no broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opsq.clock import Clock
from opsq.errors import BrokerUnavailable
from opsq.web.hands import Answers, CallAgain, Peeked, Scheduled, SetAside, Ticked, Timetable

ENTRIES = (
    ("shop.nightly-export", "shop.reports.monthly_export", "0 3 * * mon-fri", "Europe/Berlin", 86_400.0, 0.004),
    ("shop.poll-stock", "shop.stock.sync", "every 30s", None, 30.0, 0.002),
    ("shop.newsletter", "shop.mail.newsletter_batch", "every 1h", None, 3600.0, 0.03),
    ("shop.clean-up", "shop.catalog.clean_up", "sunrise 52.5 13.4", None, 86_400.0, 12.5),
)


class NightHands:
    """The schedule of the shop. Thread: any."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def timetable(self) -> Timetable:
        """Four entries, one of them late last time, and one that cannot be sent."""
        now = self._clock.now()
        entries = [self._entry(*row, now) for row in ENTRIES]
        broken = Scheduled(
            name="shop.broken", task="shop.gone", schedule="every 5m", timezone=None, args="(1,)", kwargs="{}",
            options="{}", catch_up="once", source="runtime", paused=False, upcoming=(now + 60,),
            error="TypeError: gone() takes 0 positional arguments but 1 was given",
        )  # fmt: skip
        paused = Scheduled(
            name="shop.paused", task="shop.mail.newsletter_batch", schedule="every 10m", timezone=None, args="()",
            kwargs="{}", options="{}", catch_up="none", source="code", paused=True, total=4_812, missed=3,
        )  # fmt: skip
        return Timetable(at=now, leader="beat@web-3-4c1d20a7", lease_s=11.2, entries=(*entries, broken, paused))

    def _entry(
        self, name: str, task: str, when: str, zone: str | None, every_s: float, late_s: float, now: float
    ) -> Scheduled:
        due = now - now % every_s
        ticks = [due - every_s * back for back in reversed(range(20))]
        recent = tuple(
            Ticked(id=f"{i:08x}-{len(name):04x}-5000-a000-000000000000", due_at=at, sent_at=at + late, late_s=late)
            for i, at in enumerate(ticks)
            for late in (late_s * (1 + i % 5) if i % 7 else late_s * 20,)
        )
        return Scheduled(
            name=name, task=task, schedule=when, timezone=zone, args="('warehouse-7',)", kwargs="{}", options="{}",
            catch_up="once", source="code", paused=False, upcoming=tuple(due + every_s * n for n in range(1, 13)),
            total=1_284, late_max_s=late_s * 20, recent=recent,
        )  # fmt: skip

    def order(self, command: str, arguments: Mapping[str, Any], nodes: Sequence[str], expected: int) -> Answers:
        """Nobody is there."""
        raise _away()

    def send(self, call: CallAgain) -> str:
        """Nobody is there."""
        raise _away()

    def purge(self, queue: str) -> int:
        """Nobody is there."""
        raise _away()

    def move(self, queue: str, to: str, most: int) -> int:
        """Nobody is there."""
        raise _away()

    def peek(self, queue: str, most: int) -> tuple[Peeked, ...]:
        """Nobody is there."""
        raise _away()

    def quarantined(self, most: int) -> tuple[SetAside, ...]:
        """One message that cost three processes."""
        return (
            SetAside(
                id="9d1c7b52-41a9-4b0c-8a50-21a1a6f5f0de", kind="died", reason="its process died 3 times",
                at=self._clock.now() - 300, size_bytes=412, task="shop.images.resize", worker="opsq@img-1",
                queue="images", deaths=3,
                details=({"at": self._clock.now() - 310, "worker": "opsq@img-1", "signal": 9},),
            ),
        )  # fmt: skip

    def release(self, id: str) -> str:
        """Nobody is there."""
        raise _away()

    def drop(self, id: str) -> None:
        """Nobody is there."""
        raise _away()

    def schedule(self, command: str, arguments: Mapping[str, Any]) -> str:
        """Nobody is there."""
        raise _away()


def _away() -> BrokerUnavailable:
    return BrokerUnavailable("the night has no broker")
