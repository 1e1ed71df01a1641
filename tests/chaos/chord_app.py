"""Chords under fire: bodies write down themselves that they began and ended, in the file ``LEDGER`` names."""

from __future__ import annotations

import os
import time

from opsq import Opsq

app = Opsq("chord_app")


def note(line: str) -> None:
    """Write one whole line, whatever happens to the writer."""
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    try:
        os.write(ledger, f"{line}\n".encode())
    finally:
        os.close(ledger)


@app.task
def part(number: int, milliseconds: float) -> int:
    """A member of a header."""
    time.sleep(milliseconds / 1000)
    return number


@app.task(bind=True)
def body(self, numbers: list[int], chord: int, size: int) -> int:
    """The body of chord number ``chord``, whose header had ``size`` members."""
    whole = "whole" if numbers == list(range(size)) else f"broken:{len(numbers)}"
    note(f"S {chord} {self.request.id} {os.getpid()} {whole}")
    time.sleep(0.005)
    note(f"D {chord} {self.request.id} {os.getpid()} {whole}")
    return chord
