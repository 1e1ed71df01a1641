"""What a backend does that counts the parts of chords: ``Capabilities.counts``.

A chord is a group id with a size. Its state: open, parts coming in; held by the token of whoever
completes it, until the claim ends; done. Every method is one atomic step of the store.
"""

from __future__ import annotations

from typing import Protocol


class ChordCounting(Protocol):
    """Counting chords. Thread: any. Every method raises BackendUnavailable when the store does not answer."""

    def chord_open(self, group_id: str, size: int, ttl_s: float | None) -> None:
        """Say how many parts a chord has; one that was done begins again. Parts may have come before."""
        ...

    def chord_grow(self, group_id: str, more: int, ttl_s: float | None) -> None:
        """Add to the size."""
        ...

    def chord_part(
        self,
        group_id: str,
        task_id: str,
        index: int | None,
        payload: bytes,
        token: str,
        claim_s: float,
        ttl_s: float | None,
    ) -> bool:
        """Keep a part unless this task's is there; nothing in a chord that is done.

        index: its place in the list; none is last. Returns: true when all parts are there and the chord
        is now held by ``token`` for ``claim_s``, or was before.
        """
        ...

    def chord_hold(self, group_id: str, token: str, claim_s: float, body: bytes, ttl_s: float | None) -> bool:
        """Renew a claim and keep the body for whoever takes over; false when the chord is not ``token``'s."""
        ...

    def chord_parts(self, group_id: str) -> list[bytes]:
        """The parts, in order."""
        ...

    def chord_is_open(self, group_id: str) -> bool:
        """Whether it was announced and is not done."""
        ...

    def chord_close(self, group_id: str, token: str, keep_s: float) -> None:
        """Mark it done for ``keep_s`` and forget its parts, if ``token`` holds it."""
        ...

    def chord_due(self) -> list[tuple[str, bytes]]:
        """Chords with all parts whose claim has ended, and their bodies; a hundred at most."""
        ...

    def chord_take(self, group_id: str, token: str, claim_s: float) -> bool:
        """Hold a chord whose claim has ended; false when it is held or done."""
        ...

    def chord_start(self, task_id: str, run: str, ttl_s: float | None) -> bool:
        """Note that ``run`` starts this task; false when another run did before."""
        ...
