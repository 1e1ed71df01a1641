"""What a worker says, and refuses, before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Final

from opsq.core.worker.plan import WorkerPlan
from opsq.core.worker.policy import Policy
from opsq.errors import ConfigError, Fault
from opsq.settings import Settings
from opsq.wire.content import PICKLE

NAMES_SHOWN: Final = 6
PROMISES: Final = {
    True: "at least once (acknowledged after the run; runs again when its worker dies)",
    False: "at most once (acknowledged before the run; lost when its worker dies)",
}
_PICKLE: Final = frozenset({PICKLE.name, PICKLE.mime})


def refuse_root_with_pickle(settings: Settings, user_id: int | None = None) -> None:
    """Raise ConfigError when whoever can publish a message would own this machine.

    user_id: the process's own by default.
    """
    if user_id is None:
        user_id = os.geteuid() if hasattr(os, "geteuid") else -1
    if user_id != 0 or settings.worker_allow_root_with_pickle or not _PICKLE.intersection(settings.accept_content):
        return
    raise ConfigError(
        [
            Fault(
                "this worker would accept pickle and run as root, so anybody who can publish a message could run "
                "any code as root",
                "accept_content",
                "take pickle out of accept_content, or run as another user (--uid); C_FORCE_ROOT=1 allows it anyway",
            )
        ]
    )


def banner(plan: WorkerPlan, policies: Sequence[Policy]) -> list[str]:
    """What is started, and what is promised for each task; one entry per log line."""
    broker = plan.settings.masked().get("broker_url") or "sqlite"
    lines = [
        f"starting {plan.hostname}: {plan.slots} slots of {plan.pool_class.name}, broker {broker}, "
        f"queues {', '.join(queue.name for queue in plan.queues)}, {len(policies)} tasks"
    ]
    if policies:
        lines.append("promises of the tasks:\n" + promises(policies))
    if not plan.pool_class.capabilities.coroutines and (unfit := [each.task for each in policies if each.is_async]):
        lines.append(f"this pool has no event loop; these shared tasks are coroutines and may fail: {_some(unfit)}")
    return lines


def promises(policies: Iterable[Policy]) -> str:
    """What is promised for which tasks, one line per promise however many tasks there are."""
    by_promise: dict[bool, list[str]] = {}
    for policy in policies:
        by_promise.setdefault(bool(policy.acks_late), []).append(policy.task)
    return "\n".join(f"  {PROMISES[late]}: {_some(by_promise[late])}" for late in (True, False) if late in by_promise)


def _some(names: Sequence[str]) -> str:
    shown = sorted(names)[:NAMES_SHOWN]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
