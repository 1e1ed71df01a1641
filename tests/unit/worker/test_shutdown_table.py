"""What each signal does in each state, and that docs/worker.md says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from opsq.core.worker.stopping import NEXT, SAME_REQUEST_S, Phase, answer

LATER_S = SAME_REQUEST_S * 2
PAGE = Path(__file__).parents[3] / "docs" / "worker.md"


@pytest.mark.parametrize("signal", NEXT)
@pytest.mark.parametrize("phase", [each for each in Phase if each < Phase.GONE])
def test_a_signal_never_turns_the_shutdown_back(signal: str, phase: Phase) -> None:
    for soft in (True, False):
        assert answer(signal, phase, LATER_S, soft)[0] >= phase


@pytest.mark.parametrize(
    ("signals", "phases", "code"),
    [
        ("TERM", [Phase.WARM], 0),
        ("TERM TERM", [Phase.WARM, Phase.COLD], 1),
        ("TERM TERM TERM", [Phase.WARM, Phase.COLD, Phase.COLD], 1),
        ("INT", [Phase.WARM], 1),
        ("INT INT INT", [Phase.WARM, Phase.COLD, Phase.GONE], 1),
        ("QUIT", [Phase.COLD], 1),
        ("QUIT QUIT", [Phase.COLD, Phase.GONE], 1),
        ("HUP", [Phase.WARM], 0),
    ],
)
def test_repeats_without_a_soft_wait(signals: str, phases: list[Phase], code: int) -> None:
    assert _walk(signals, soft=False) == (phases, code)


@pytest.mark.parametrize(
    ("signals", "phases"),
    [
        ("TERM TERM TERM", [Phase.WARM, Phase.SOFT, Phase.COLD]),
        ("INT INT INT INT", [Phase.WARM, Phase.SOFT, Phase.COLD, Phase.GONE]),
        ("QUIT QUIT", [Phase.SOFT, Phase.COLD]),
        ("TERM QUIT INT INT", [Phase.WARM, Phase.SOFT, Phase.COLD, Phase.GONE]),
    ],
)
def test_repeats_with_a_soft_wait(signals: str, phases: list[Phase]) -> None:
    assert _walk(signals, soft=True)[0] == phases


def test_a_term_right_after_another_signal_is_the_same_request() -> None:
    assert answer("SIGTERM", Phase.WARM, SAME_REQUEST_S / 2, soft=False) == (Phase.WARM, 0)
    assert answer("SIGTERM", Phase.WARM, LATER_S, soft=False) == (Phase.COLD, 1)
    assert answer("SIGINT", Phase.WARM, 0.0, soft=False)[0] == Phase.COLD


def test_the_page_shows_this_table() -> None:
    rows = dict(re.findall(r"^\| `(SIG\w+)` \| (.+?) \|$", PAGE.read_text(), re.MULTILINE))
    shown = {name: tuple(cell.strip().upper() for cell in row.split("|")) for name, row in rows.items()}
    table = {name: tuple(phase.name for phase in phases) for name, phases in NEXT.items()}
    assert {name: shown.get(name) for name in table} == table


def _walk(signals: str, soft: bool) -> tuple[list[Phase], int]:
    phase, code, seen = Phase.RUNNING, 0, []
    for name in signals.split():
        phase, asked = answer(f"SIG{name}", phase, LATER_S, soft)
        code = code or asked
        seen.append(phase)
    return seen, code
