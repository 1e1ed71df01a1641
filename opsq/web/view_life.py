"""The life of a task, drawn: each try as a bar, the pauses between them dashed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.records import Percentiles, Try
from opsq.web import charts, words
from opsq.web.faces import task_face
from opsq.web.view_common import Moments, segment_lengths

MAX_DRAWN: Final = 5
PAUSE_PERCENT: Final = 9.0
LEAST_PERCENT: Final = 13.0
ROOM_FOR_TWO: Final = 22.0
ENDED: Final = frozenset({"SUCCESS", "FAILURE", "RETRY", "REVOKED", "REJECTED", "IGNORED"})


@dataclass(frozen=True, slots=True)
class DrawnTry:
    """One bar. All positions are percent of the width; usual_x is where half of the runs of the type end."""

    label: str
    x: float
    segments: tuple[charts.Segment, ...]
    outcome_x: float
    outcome_css: str
    usual_x: float | None
    clock: str
    pause: str
    pause_from: float
    pause_to: float
    quiet: bool


@dataclass(frozen=True, slots=True)
class Life:
    """The drawing. left_out: how many earlier tries are only in the table."""

    tries: tuple[DrawnTry, ...]
    end_label: str
    sentence: str
    left_out: int


def life(tries: Sequence[Try], usual: Percentiles | None, now: float) -> Life | None:
    """Draw the newest tries on one scale; None when no time of any of them is known."""
    shown = [one for one in tries[-MAX_DRAWN:] if _start(one) is not None]
    if not shown:
        return None
    bars = [segment_lengths(one.segments, one.state, _moments(one), now) for one in shown]
    lengths = [max(1e-4, sum(length or 0.0 for _, length in bar)) for bar in bars]
    widths = _widths(lengths)
    drawn: list[DrawnTry] = []
    x = 0.0
    for i, one in enumerate(shown):
        pause = _pause(one, shown[i + 1], lengths[i + 1]) if i + 1 < len(shown) else None
        drawn.append(_draw(one, bars[i], _Stretch(x, widths[i], lengths[i]), usual, pause))
        x += widths[i] + PAUSE_PERCENT
    end = _end(shown[-1]) if widths[-1] > ROOM_FOR_TWO else ""
    return Life(tuple(drawn), end, _sentence(shown, lengths), len(tries) - len(shown))


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Where a try is drawn: from ``x`` on, ``width`` wide (percent), standing for ``length_s`` seconds."""

    x: float
    width: float
    length_s: float


def _widths(lengths: Sequence[float]) -> list[float]:
    """Share the width by length, but leave every try room for its name."""
    room = 100.0 - PAUSE_PERCENT * (len(lengths) - 1) - 0.6
    least = min(LEAST_PERCENT, room / len(lengths))
    spare = room - least * len(lengths)
    whole = sum(lengths)
    return [least + spare * length / whole for length in lengths]


def _draw(
    one: Try, bar: list[tuple[str, float | None]], at: _Stretch, usual: Percentiles | None, pause: float | None
) -> DrawnTry:
    scale = at.width / 100
    segments = tuple(
        charts.Segment(s.css, round(at.x + s.x * scale, 2), round(max(s.width * scale, 0.15), 2))
        for s in charts.segments(bar, at.length_s)[0]
    )
    started = sum(length or 0.0 for css, length in bar if css in ("waiting", "prefetched"))
    share = (started + usual.p50) / at.length_s if usual else 0.0
    return DrawnTry(
        label=f"{words.short_ordinal(one.number)} try",
        x=round(at.x, 2),
        segments=segments,
        outcome_x=round(at.x + at.width, 2),
        outcome_css=task_face(one.state).css if one.state in ENDED else "",
        usual_x=round(at.x + at.width * share, 2) if 0.3 < share < 0.97 else None,
        clock=words.clock_ms(_start(one) or 0.0),
        pause="" if pause is None else f"{words.duration(pause)} pause",
        pause_from=round(at.x + at.width + 0.8, 2),
        pause_to=round(at.x + at.width + PAUSE_PERCENT - 0.6, 2),
        quiet=at.x > 0,
    )


def _start(one: Try) -> float | None:
    moments = (one.published_at, one.delivered_at, one.slot_at, one.started_at, one.finished_at)
    return next((at for at in moments if at is not None), None)


def _finish(one: Try) -> float | None:
    return one.finished_at if one.finished_at is not None else one.acked_at


def _moments(one: Try) -> Moments:
    return Moments(one.published_at, one.delivered_at, one.started_at)


def _pause(one: Try, following: Try, length: float) -> float | None:
    """Tell how long nothing happened: between two ends, less what the second try's own stretches took.

    A retry with a countdown is published at once and held; its holding is the pause, not its waiting.
    """
    ended, next_end = _finish(one), _finish(following)
    if ended is not None and next_end is not None:
        return max(0.0, next_end - ended - length)
    began = _start(following)
    return None if ended is None or began is None else max(0.0, began - ended)


def _end(last: Try) -> str:
    ended = _finish(last)
    if ended is None:
        return ""
    word = task_face(last.state).word if last.state in ENDED else "ended"
    return f"{word} {words.clock_ms(ended)}"


def _sentence(shown: Sequence[Try], lengths: Sequence[float]) -> str:
    said = ", ".join(words.duration(length) for length in lengths)
    return f"{words.plural(len(shown), 'try', 'tries')}, from publish to outcome: {said}."
