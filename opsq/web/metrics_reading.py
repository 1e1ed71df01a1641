"""Reads the monitor for one scrape."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from opsq.autoscale.account import SILENT_S
from opsq.web.deps import Deps
from opsq.web.metrics_scrape import Reading

#: The causes of failure heard of last that are told.
MOST_ERRORS: Final = 50
#: What takes long to count and changes slowly is counted this often at most, in seconds.
SLOW_S: Final = 5.0


def reading(deps: Deps) -> Reading:
    """Read everything that ``/metrics`` tells. Blocks on the store. Raises StoreUnavailable."""
    query, figures = deps.query, deps.query.figures
    workers = query.workers()
    return Reading(
        now=deps.clock.now(),
        version=deps.here.version,
        counters=query.counters(),
        strip=query.strip(),
        freshness=query.freshness(),
        workers=workers,
        queues=query.queues(),
        whole=figures.everything(),
        types=figures.by("t:"),
        queue_sums=figures.by("q:"),
        worker_sums=figures.by("w:"),
        tally=figures.tally(),
        prefetched=figures.prefetched(),
        errors=deps.memo.get(("scraped-errors",), SLOW_S, lambda: deps.views.errors(limit=MOST_ERRORS)),
        error_groups=figures.error_groups(),
        quarantine=figures.quarantine(),
        scaling=tuple(map(structs.asdict, deps.views.scaled_groups(deps.clock.now() - SILENT_S))),
    )
