"""The night of ``world.py`` as its workers would tell it when they are asked: reports behind since deploy v412."""

from __future__ import annotations

from opsq.broker.source import QueueDepth
from opsq.events.diagnosis.answers import Answer, Looked
from opsq.events.diagnosis.asking import Question
from opsq.events.diagnosis.case import Request
from tests.web.world import World

EXPORT, DAILY = "shop.reports.monthly_export", "shop.reports.daily_sales"


class NightEyes:
    """Answers as the workers of the night would. Thread: any."""

    lease_s = 30.0

    def __init__(self, world: World, *, broker: str = "redis") -> None:
        self._world = world
        self._broker = broker

    def look(self, question: Question, wait_s: float) -> Looked:
        """What reports-1 answers; reports-2 is silent."""
        now = self._world.clock.now()
        running = [Request(f"r{n}{'0' * 30}", EXPORT, now - lasts) for n, lasts in enumerate((31.2, 22.0, 17.4))]
        answer = Answer(
            running=(*running, Request(f"r9{'0' * 30}", DAILY, now - 1.1)), reserved=(), waiting=(),
            registered={EXPORT: None, DAILY: None}, queues=("reports",), slots=4, pool="prefork", ours=True,
        )  # fmt: skip
        return Looked(
            at=now, asked=question.nodes, answers={"opsq@reports-1": answer}, orders=(),
            depth=QueueDepth(412, oldest_age_s=478.0), driver=self._broker,
            lacks=("opsq@reports-2 did not answer within 1 s",),
        )  # fmt: skip


MINE = "0b7e4c1e-9d2f-4c57-8a11-6c0e5b9f3d72"


def waiting_export(world: World, ahead: int = 2, behind: int = 1) -> str:
    """Publish a line of reports, unless it was; the id of one in it."""
    if world.query.task(MINE) is not None:
        return MINE
    now = world.clock.now()
    for n in range(ahead + behind + 1):
        uuid = MINE if n == ahead else f"{n:08x}-0000-4000-a000-00000000beef"
        name = EXPORT if n % 7 < 5 else DAILY
        at = now - 478.0 + n * 478.0 / (ahead + behind + 1)
        world.tell("task-sent", "web-1", at, uuid, name=EXPORT if n == ahead else name, queue="reports", root_id=uuid,
                   args="(48213, '2026-10')", kwargs="{}")  # fmt: skip
    world.step(0.5)
    return MINE
