"""Promises in seconds: held to the letter in ``make chaos`` and by scripts, on a machine that does nothing else."""

from __future__ import annotations

import os

#: Only what hangs takes so long.
_STANDSTILL_S = 60.0
STRICT = os.environ.get("CHAOS") == "full" or "PYTEST_VERSION" not in os.environ


def within(promised_s: float) -> float:
    """The bound of a promise. In ``make test`` one that only what hangs exceeds: a machine that others use as well may
    stand still for seconds, anywhere, and that is not the fault of what is tested."""
    return promised_s if STRICT else max(promised_s, _STANDSTILL_S)
