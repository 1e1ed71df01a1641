"""A camera for ``test_watching_commands.py``."""

from __future__ import annotations

from opsq.events.snapshot import Polaroid, State


class Counts(Polaroid):
    """Prints who works and what ended."""

    def on_shutter(self, state: State) -> None:
        """Print."""
        states = sorted({task.state for _, task in state.tasks_by_time()})
        print(state.event_count, [worker.hostname for worker in state.alive_workers()], states, flush=True)
