"""The checker finds each kind of violation when it is planted, and none where there is none."""

from __future__ import annotations

import pytest

from tests.chaos.ledger import Ledger, Promise

CLEAN = ["C 1", "C 2", "S 1 7 1.0", "S 2 8 1.0", "D 1 7 2.0", "F kill 2.5 2.6", "S 2 9 4.0", "D 2 9 5.0"]
"""Task 2 ran when the worker was killed, and again afterwards."""
ONCE = ["Q 1", "C 1", "Q 2", "C 2", "S 1 7 1.0", "D 1 7 1.5", "S 2 7 2.0", "D 2 7 2.5"]
CHORD = ["H c 1", "H c 2", *ONCE, "B c 3.0"]
RESULTS = ["R 1 SUCCESS", "R 2 SUCCESS"]
WATCHED = ["M 1 SUCCESS", "M 2 SUCCESS"]
EARLY = Promise(late=False)


@pytest.mark.parametrize(
    ("lines", "promise"),
    [
        (CLEAN, Promise()),
        (ONCE, Promise(ordered=True, per_s=1.0)),
        (CHORD, Promise()),
        ([*CHORD[:2], "C 1", "S 1 7 1.0", "D 1 7 2.0"], Promise()),  # a member that never ended owes no body
        ([*ONCE, *RESULTS, *WATCHED], Promise(results=True, monitor=True)),
        (["Q 9", *ONCE], Promise()),  # raised: may have run or not
        (["Q 9", *ONCE, "S 9 7 3.0", "D 9 7 3.1"], Promise()),
        (["C 1", "S 1 7 1.0", "F kill 1.5 1.5"], EARLY),  # lost in a crash, as was said
        ([*ONCE, "E 1 1.0", "L 1 0.5"], Promise()),
        ([*CLEAN, "F stop 5.0 5.1", "C 3", "S 3 9 5.5", "S 3 8 8.0", "D 3 9 9", "D 3 8 9"], Promise(lease_s=3.0)),
    ],
)
def test_a_clean_run_has_no_violation(lines: list[str], promise: Promise) -> None:
    ledger = Ledger.of(lines)
    assert ledger.violations(promise) == []
    assert ledger.report(promise)["verdict"] == "kept"


PLANTED = {
    "lost": ([*CLEAN, "C 3"], Promise(), "lost: 3 "),
    "foreign": ([*CLEAN, "S 4 7 1.0", "D 4 7 1.1"], Promise(), "foreign: 4 "),
    "doubled": ([*CLEAN, "C 5", "S 5 9 6.0", "D 5 9 6.1", "S 5 9 7.0"], Promise(), "doubled: 5 "),
    "doubled-after-the-lease": (
        [*CLEAN, "C 3", "S 3 9 5.5", "D 3 9 5.6", "S 3 8 6.0", "D 3 8 6.1"],
        Promise(lease_s=2.0),
        "doubled: 3 ",
    ),
    "doubled-early": ([*CLEAN], EARLY, "doubled: 2 was to run at most once"),
    "lost-early": ([*ONCE, "C 3"], EARLY, "lost: 3 "),
    "vanished": ([*CLEAN, "C 6", "S 6 9 6.0"], Promise(), "vanished: 6 "),
    "vanished-long-before": (
        ["C 1", "S 1 7 1.0", "F kill 9 9", "S 1 8 9.5", "D 1 8 9.6"],
        Promise(longest_s=1),
        "vanished: 1 ",
    ),
    "repeated": ([*CLEAN, "S 2 9 5.1", "D 2 9 5.2"], Promise(), "repeated: 2 "),
    "malformed": ([*CLEAN, "D 1"], Promise(), "malformed line 'D 1'"),
    "malformed-number": ([*CLEAN, "S 1 7 soon"], Promise(), "malformed line 'S 1 7 soon'"),
    "early": ([*ONCE, "E 2 2.1"], Promise(), "early: 2 began at 2.0, 0.100 s before"),
    "overlong": ([*ONCE, "C 3", "L 3 1.0", "S 3 7 3.0", "D 3 7 5.5"], Promise(), "overlong: 3 ran for 2.500 s"),
    "disorder": (["Q 2", "Q 1", *[line for line in ONCE if line[0] != "Q"]], Promise(ordered=True), "disorder: 2 "),
    "too-fast": (
        [*ONCE, "Q 3", "S 3 7 2.0", "Q 4", "S 4 7 2.0"],
        Promise(per_s=2.0),
        "too fast: 3 runs within 0.000 s",
    ),
    "no-result": ([*ONCE, "R 1 SUCCESS"], Promise(results=True), "result: 2 ended and the result says nothing"),
    "pending": ([*ONCE, "R 1 SUCCESS", "R 2 PENDING"], Promise(results=True), "result: 2 ended and the result says P"),
    "made-up": ([*ONCE, *RESULTS, "R 3 SUCCESS"], Promise(results=True), "result: 3 never ended"),
    "monitor": (
        [*ONCE, "M 1 SUCCESS", "M 2 STARTED"],
        Promise(monitor=True),
        "monitor: 2 ended and the monitor says S",
    ),
    "body-lost": (CHORD[:-1], Promise(), "chord: the body of c never ran"),
    "body-twice": ([*CHORD, "B c 3.5"], Promise(), "chord: the body of c ran 2 times"),
    "body-early": ([*CHORD[:-1], "B c 2.2"], Promise(), "chord: the body of c ran before 2 had ended"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_violation_is_found(kind: str) -> None:
    lines, promise, words = PLANTED[kind]
    found = Ledger.of(lines).violations(promise)
    assert any(words in violation for violation in found), found
    assert Ledger.of(lines).report(promise)["verdict"] == "broken"
