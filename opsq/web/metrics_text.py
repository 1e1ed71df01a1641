"""Families of metrics as text: Prometheus' format 0.0.4 and OpenMetrics 1.0.

Written here because a scrape of a large fleet is some ten thousand lines, and formatting a whole histogram in one
step is what keeps it within a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, Literal

from opsq.events.bounds import Buckets, Exemplar

Labels = tuple[str, ...]
Value = float | Buckets
Samples = Iterable[tuple[Labels, Value]]
Kind = Literal["counter", "gauge", "histogram", "untyped"]

_LABELS_HERE: Final = "\0"
_OPENMETRICS_KIND: Final = {"untyped": "unknown"}


def family(
    name: str, kind: Kind, help: str, labels: Labels, samples: Samples, *, unit: str = "", openmetrics: bool = False
) -> Iterator[str]:
    """Write one family: what it is, then its samples. unit: in the name already; only OpenMetrics says it apart."""
    yield from _head(name, kind, help, unit, openmetrics)
    for values, value in samples:
        shown = label_text(labels, values)
        if isinstance(value, Buckets):
            yield _histogram(name, shown, value, openmetrics)
        elif shown:
            yield f"{name}{{{shown}}} {number(value)}\n"
        else:
            yield f"{name} {number(value)}\n"


def _head(name: str, kind: Kind, help: str, unit: str, openmetrics: bool) -> Iterator[str]:
    # OpenMetrics names a counter without the ending that its samples have.
    shown = name.removesuffix("_total") if openmetrics and kind == "counter" else name
    yield f"# HELP {shown} {_escaped(help) if openmetrics else _escaped_help(help)}\n"
    yield f"# TYPE {shown} {_OPENMETRICS_KIND.get(kind, kind) if openmetrics else kind}\n"
    if openmetrics and unit:
        yield f"# UNIT {shown} {unit}\n"


def _histogram(name: str, shown: str, value: Buckets, openmetrics: bool) -> str:
    text = _template(name, value.bounds, bool(shown)) % (*value.counts, number(value.sum_s), value.count)
    if openmetrics and value.exemplars:
        lines = text.split("\n")
        for place, example in value.exemplars.items():
            lines[place] += _exemplar(example)
        text = "\n".join(lines)
    # Last, so that no sign within a label can be taken for a place of the template.
    return text.replace(_LABELS_HERE, shown)


@lru_cache(maxsize=256)
def _template(name: str, bounds: tuple[float, ...], labelled: bool) -> str:
    """All lines of one histogram with places for its numbers, and for its labels."""
    each = _LABELS_HERE + "," if labelled else ""
    ends = [*(number(bound) for bound in bounds), "+Inf"]
    lines = [f'{name}_bucket{{{each}le="{end}"}} %d\n' for end in ends]
    around = f"{{{_LABELS_HERE}}}" if labelled else ""
    return "".join([*lines, f"{name}_sum{around} %s\n", f"{name}_count{around} %d\n"])


def _exemplar(example: Exemplar) -> str:
    # Longer ones make a scraper refuse everything.
    id = _escaped(example.task_id[:100])
    return f' # {{task_id="{id}"}} {number(example.value_s)} {example.at:.3f}'


@lru_cache(maxsize=1 << 15)
def label_text(names: Labels, values: Labels) -> str:
    """Write labels as they stand between braces."""
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)])


def number(value: float) -> str:
    """Write a number; whole floats keep their point, as scrapers write bounds."""
    if isinstance(value, int):
        return str(value)
    if value != value:
        return "NaN"
    return repr(float(value)) if abs(value) != float("inf") else "+Inf" if value > 0 else "-Inf"


def _escaped(text: str) -> str:
    if "\\" in text or '"' in text or "\n" in text:
        return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return text


def _escaped_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
