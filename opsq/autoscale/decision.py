"""What a policy answers: the target, every bound behind it, and the same in words."""

from __future__ import annotations

import msgspec


class Bound(msgspec.Struct, frozen=True):
    """One number that took part. kind: ``need`` raises the target, ``cap`` limits it, ``floor`` holds it up.

    template, facts: the reason; put together by ``text`` only when somebody reads it.
    """

    name: str
    kind: str
    value: float
    template: str = ""
    facts: tuple[object, ...] = ()

    @property
    def text(self) -> str:
        """The reason in words."""
        return self.template.format(*self.facts)


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy remembers from one decision to the next; plain data, kept by the caller.

    wants: (time, slots) of the hold window. waste: slot-seconds not needed so far. turns: when the direction
    changed. grown: (time, slots before, throughput before) of the last growth. knee: (until, slots) beyond which
    growing did not help. oom: (until, slots, kills seen). idle_since: last time there was nothing to do.
    """

    at: float | None = None
    wants: tuple[tuple[float, int], ...] = ()
    waste: float = 0.0
    direction: int = 0
    turns: tuple[float, ...] = ()
    grown_at: float | None = None
    grown: tuple[float, int, float | None] | None = None
    knee: tuple[float, int] | None = None
    oom: tuple[float, int, int] | None = None
    idle_since: float | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The size to have from now on, and why.

    target: slots, a multiple of the unit. want: what the load asks for before holding back. mode: ``live``,
    ``local`` (own signals only) or ``blind`` (kept as it is). winner: the bound that set ``want``; capped_by: the one
    that kept it lower. hold_s: seconds before a shrink, as far as can be said. noisy: the hold was doubled.
    """

    at: float
    have: int
    target: int
    want: int
    mode: str
    bounds: tuple[Bound, ...]
    winner: str
    capped_by: str | None = None
    hold_s: float = 0.0
    noisy: bool = False
    history: History = History()

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence per bound that took part, the deciding one first."""
        order = sorted(self.bounds, key=lambda one: (one.name != self.winner, one.name != self.capped_by))
        return tuple(f"{_size(one.value)}: {one.text or one.name}" for one in order)

    @property
    def text(self) -> str:
        """The decision in one line, for people."""
        chosen = {one.name: one.text or one.name for one in self.bounds}
        why = chosen.get(self.winner, self.winner)
        if self.capped_by:
            why += f"; held down by {chosen.get(self.capped_by, self.capped_by)}"
        if self.target != self.have:
            return f"{self.have} → {self.target}: {why}"
        if self.mode == "blind":
            return f"kept {self.have}: {why}"
        if self.want < self.have:
            wait = f", {self.hold_s:.0f} s of hold left" if self.hold_s >= 1 else ""
            return f"kept {self.have} (wants {self.want}{wait}): {why}"
        return f"kept {self.have}: {why}"


def _size(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"
