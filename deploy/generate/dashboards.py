"""Grafana's dashboards, as it imports them: any Prometheus, any number of installations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from deploy.generate.panels import OVERVIEW, TASKS, WORKERS, Panel

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS: Final = 24


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard. uid: its address in Grafana and the name of its file."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


DASHBOARDS: Final = (
    Board("opsq-overview", "opsq / Overview", OVERVIEW),
    Board("opsq-tasks", "opsq / Tasks and queues", TASKS),
    Board("opsq-workers", "opsq / Workers and monitor", WORKERS),
)


def dashboard(board: Board) -> dict[str, Any]:
    """Return the dashboard as JSON."""
    return {
        "uid": board.uid,
        "title": board.title,
        "tags": ["opsq"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "graphTooltip": 1,
        "links": [{"type": "dashboards", "tags": ["opsq"], "title": "opsq", "asDropdown": False}],
        "templating": {"list": [_source_variable(), _variable("job"), _variable("namespace")]},
        "panels": list(_panels(board.panels)),
    }


def _panels(panels: tuple[Panel, ...]) -> Iterator[dict[str, Any]]:
    x = y = row = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _COLUMNS:
            x, y, row = 0, y + row, 0
        yield _panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": panel.height})
        x, row = x + panel.width, max(row, panel.height)


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    table = panel.kind == "table"
    return {
        "id": number,
        "title": panel.title,
        "description": panel.text,
        "type": panel.kind,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query.asks,
                "legendFormat": query.legend or "__auto",
                **({"format": "table", "instant": True} if table else {}),
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _drawn(panel), "overrides": []},
        "options": _options(panel),
    }


def _drawn(panel: Panel) -> dict[str, Any]:
    drawn: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stack else "none", "group": "A"}
        fill = 30 if panel.stack else 5
        drawn["custom"] = {"lineWidth": 1, "fillOpacity": fill, "showPoints": "never", "stacking": stacking}
    return drawn


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind in ("stat", "bargauge"):
        return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    return {}


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(label: str) -> dict[str, Any]:
    return {
        "name": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": f"label_values(opsq_build_info, {label})", "refId": label},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
