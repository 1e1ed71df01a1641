"""What the pages ask about errors: those of a range with their trends, what is muted, what may be new. Thread: any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from opsq.web import facts, facts_changes
from opsq.web.access.door import Visitor
from opsq.web.deps import Deps
from opsq.web.mutes import Mute
from opsq.web.view_common import Ask
from opsq.web.view_errors import Counted, ErrorsFacts, Since
from opsq.web.view_range import Range

TREND_S: Final = 2.0
MOST_LINES: Final = 6


def of_range(deps: Deps, visitor: Visitor, shown: Range) -> ErrorsFacts:
    """Read every error group with how often it came in a range."""
    key = ("error-trends", shown.length_s, shown.end_at)
    trends = deps.memo.get(key, TREND_S, lambda: deps.views.error_trends(window_s=shown.length_s, until=shown.end_at))
    groups = [Counted(group, trends.counts.get(group.fault, ())) for group in facts.errors(deps, visitor)]
    return ErrorsFacts(groups, since(deps), mutes(deps))


def most(deps: Deps, ask: Ask, shown: Range) -> tuple[list[Counted], int]:
    """Read the errors that came most in a range and are not muted, and how many there are."""
    found = of_range(deps, ask.visitor, shown)
    heard = [each for each in found.groups if each.count and each.group.fault not in found.mutes]
    heard.sort(key=lambda each: (-each.count, each.group.fault))
    whole = ((each, facts.error(deps, each.group.fault, replace(ask, range=shown))) for each in heard[:MOST_LINES])
    return [Counted(group or each.group, each.trend) for each, group in whole], len(heard)


def since(deps: Deps) -> Since:
    """Read what a new error may come from."""
    return Since(facts.last_start(deps), facts_changes.last_deploy(deps))


def mutes(deps: Deps) -> Mapping[str, Mute]:
    """Read what is muted now."""
    return {} if deps.mutes is None else deps.mutes.now()
