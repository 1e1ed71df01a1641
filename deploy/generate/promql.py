"""PromQL out of the table of metrics: a series or label that does not exist raises here, not on somebody's dashboard.

Several monitors of one history tell the same numbers, so every reading takes the greatest of those that differ only in
the scraped instance; sums are made of these.
"""

from __future__ import annotations

from typing import Final

from opsq.web.metrics import SERIES
from opsq.web.metrics_scrape import Series

TABLE: Final = {series.name: series for series in SERIES}
#: Which installation; what is left of a target's own labels.
PLACE: Final = ("job", "namespace")


class NoSeries(ValueError):
    """The table of metrics has no such series, or the series no such label."""


def known(name: str, *labels: str) -> Series:
    """Look a series up. Raises: NoSeries."""
    if name not in TABLE:
        raise NoSeries(f"/metrics tells no series {name}")
    for label in labels:
        if label not in TABLE[name].labels:
            raise NoSeries(f"{name} has no label {label}; it has {', '.join(TABLE[name].labels) or 'none'}")
    return TABLE[name]


def _selected(name: str, suffix: str, where: str, match: dict[str, str]) -> str:
    known(name, *match)
    parts = [where] if where else []
    parts += [f'{label}=~"{value}"' for label, value in match.items()]
    return name + suffix + ("{" + ", ".join(parts) + "}" if parts else "")


def _once(name: str, expression: str, *more: str) -> str:
    return f"max by ({', '.join((*PLACE, *TABLE[name].labels, *more))}) ({expression})"


def now(name: str, where: str = "", **match: str) -> str:
    """Read a gauge as it is. where: a ready selector; match: label to regular expression."""
    return _once(name, _selected(name, "", where, match))


def rate(name: str, window: str, where: str = "", **match: str) -> str:
    """Read how fast a counter grows, a second."""
    return _once(name, f"rate({_selected(name, '', where, match)}[{window}])")


def increase(name: str, window: str, where: str = "", **match: str) -> str:
    """Read by how much a counter grew."""
    return _once(name, f"increase({_selected(name, '', where, match)}[{window}])")


def quantile(share: float, name: str, window: str, by: str = "", where: str = "", **match: str) -> str:
    """Read a quantile of a histogram, by one of its labels or over all of them."""
    known(name, *([by] if by else []))
    buckets = _once(name, f"rate({_selected(name, '_bucket', where, match)}[{window}])", "le")
    kept = ", ".join((*PLACE, *([by] if by else []), "le"))
    return f"histogram_quantile({share:g}, sum by ({kept}) ({buckets}))"


def total(expression: str, *by: str) -> str:
    """Add up, keeping ``by``; nothing tells installations apart."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def placed(expression: str, *by: str) -> str:
    """Add up for each installation, keeping ``by``."""
    return total(expression, *PLACE, *by)
