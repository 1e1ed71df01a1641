"""What the pages ask about changes: who started, what was ordered, what was done from the pages. Thread: any."""

from __future__ import annotations

from typing import Final

from opsq.errors import OpsqError
from opsq.web import facts
from opsq.web.access.door import Visitor
from opsq.web.audit import Entry
from opsq.web.changes import Change, Life, changes, decision
from opsq.web.deps import Deps
from opsq.web.view_range import Range

KEEP_S: Final = 5.0
MOST_WORKERS: Final = 300
MOST_ACTS: Final = 300
LONGEST_LIST: Final = 400


def of_range(deps: Deps, visitor: Visitor, shown: Range) -> tuple[Change, ...]:
    """Read what changed within a range, newest first. Who did it is told to those who may read the audit."""
    sees_acts = "audit" in visitor.grants
    known = deps.memo.get(("changes", sees_acts), KEEP_S, lambda: _read(deps, sees_acts))
    end = shown.end_at if shown.end_at is not None else deps.clock.now() + 60.0
    start = end - shown.length_s
    decided = deps.memo.get(
        ("decided", shown.length_s, shown.end_at), KEEP_S,
        lambda: tuple(map(decision, deps.views.decisions(start, end, changed=True, limit=LONGEST_LIST))),
    )  # fmt: skip
    found = [change for change in (*known, *decided) if start <= change.at <= end]
    return tuple(sorted(found, key=lambda change: -change.at)[:LONGEST_LIST])


def last_deploy(deps: Deps) -> Change | None:
    """Read the newest deploy that was seen; None when none was."""
    known = deps.memo.get(("changes", False), KEEP_S, lambda: _read(deps, False))
    return next((change for change in known if change.major), None)


def _read(deps: Deps, sees_acts: bool) -> tuple[Change, ...]:
    heard = sorted(facts.workers(deps), key=lambda worker: -worker.last_seen_at)[:MOST_WORKERS]
    lives = [Life(worker.name, worker.queues, deps.views.worker_history(worker.name)) for worker in heard]
    began_at = min((worker.first_seen_at for worker in heard), default=0.0)
    return changes(lives, _acts(deps) if sees_acts else (), began_at)


def _acts(deps: Deps) -> tuple[Entry, ...]:
    if deps.trail is None:
        return ()
    try:
        return tuple(kept.entry for kept in deps.trail.page(limit=MOST_ACTS) if kept.intact)
    except OpsqError:
        return ()  # the store is away: the banner says so, and charts without these marks are charts still
