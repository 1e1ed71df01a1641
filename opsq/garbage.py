"""Have Python look for reference cycles rarely, in processes that make many short-lived objects and hardly a cycle.

With Python's own thresholds a busy worker spends a sixth of its time walking over what it imported and what waits.
"""

from __future__ import annotations

import gc

_OF_THE_YOUNG, _OF_THE_MIDDLE = 20, 50


def look_rarely(after: int) -> None:
    """Never look at what exists by now, and at the rest only when ``after`` more objects exist than at the last look.

    What a cycle holds is freed later, by that many objects at most. Concerns the whole process, and processes it forks.
    A program that looks more rarely by its own wish, or never, keeps that. Thread: any.
    """
    gc.freeze()
    if gc.isenabled() and gc.get_threshold()[0] < after:
        gc.set_threshold(after, _OF_THE_YOUNG, _OF_THE_MIDDLE)
