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
    for i, (one, bar, length, width) in enumerate(zip(shown, bars, lengths, widths, strict=True)):
        following = i + 1
        pause = _pause(one, shown[following], lengths[following]) if following < len(shown) else None
        pause_to = x + width + PAUSE_PERCENT
        drawn.append(_draw(one, bar, length, x, width, usual, pause, pause_to, first=i == 0))
        x = pause_to
    left_out = len(tries) - len(shown)
    end = _end(shown[-1]) if widths[-1] > ROOM_FOR_TWO else ""
    return Life(tuple(drawn), end, _sentence(shown, lengths), left_out)


def _widths(lengths: Sequence[float]) -> list[float]:
    """Share the width by length, but leave every try room for its name."""
    room = 100.0 - PAUSE_PERCENT * (len(lengths) - 1) - 0.6
    least = min(LEAST_PERCENT, room / len(lengths))
    spare = room - least * len(lengths)
    whole = sum(lengths)
    return [least + spare * length / whole for length in lengths]


def _draw(
    one: Try, bar: list[tuple[str, float | None]], length: float, x: float, width: float,
    usual: Percentiles | None, pause: float | None, pause_to: float, *, first: bool,
) -> DrawnTry:  # fmt: skip
    drawn, _ = charts.segments(bar, length)
    scale = width / 100
    segments = tuple(
        charts.Segment(s.css, round(x + s.x * scale, 2), round(max(s.width * scale, 0.15), 2)) for s in drawn
    )
    started = sum(length_s or 0.0 for css, length_s in bar if css in ("waiting", "prefetched"))
    usual_share = (started + usual.p50) / length if usual else None
    return DrawnTry(
        label=f"{words.short_ordinal(one.number)} try",
        x=round(x, 2),
        segments=segments,
        outcome_x=round(x + width, 2),
        outcome_css=task_face(one.state).css if one.state in ENDED else "",
        usual_x=round(x + width * usual_share, 2) if usual_share is not None and 0.3 < usual_share < 0.97 else None,
        clock=words.clock_ms(_start(one) or 0.0),
        pause="" if pause is None else f"{words.duration(pause)} pause",
        pause_from=round(x + width + 0.8, 2),
        pause_to=round(pause_to - 0.6, 2),
        quiet=not first,
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
