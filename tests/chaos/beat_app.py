"""The app of the beats under fire: one tick after the other, none of which may be left out."""

from __future__ import annotations

from opsq import Opsq

EVERY_S = 0.2

app = Opsq("beat_app")
app.conf.beat_schedule = {
    "steady": {"task": "beat_app.tick", "schedule": EVERY_S, "catch_up": "all"},
    "second": {"task": "beat_app.tick", "schedule": 0.5, "catch_up": "all", "args": ("second",)},
}


@app.task(ignore_result=True)
def tick(which: str = "first") -> str:
    """Say which."""
    return which
