"""What remote control changed for a while only: each change is undone by itself when its time is over.

An override belongs to this worker's process: one that is started anew begins with what is configured.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from msgspec import Struct

log = logging.getLogger(__name__)

OVERRIDES_MAX = 10_000


class Override(Struct, frozen=True):
    """what: such as ``rate_limit shop.mail``. now, then: as it is and as it will be. until: epoch seconds."""

    what: str
    now: str
    then: str
    until: float
    restore: Callable[[], object]


class Overrides:
    """Undoes changes when they end, on a thread of its own. Thread: any."""

    def __init__(self) -> None:
        self._held: dict[str, Override] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def begin(self, override: Override) -> None:
        """Undo this change at its end. Of a change that is changed again, what was before the first comes back."""
        with self._changed:
            before = self._held.get(override.what)
            if before is not None:
                override = Override(override.what, override.now, before.then, override.until, before.restore)
            elif len(self._held) >= OVERRIDES_MAX:
                log.error("too many overrides; this one will not end by itself", extra={"what": override.what})
                return
            self._held[override.what] = override
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._main, name="opsq-overrides", daemon=True)
                self._thread.start()
            self._changed.notify()

    def drop(self, what: str) -> None:
        """Undo it no more: somebody has changed the same thing for good."""
        with self._changed:
            self._held.pop(what, None)

    def change(self, what: str, shown: tuple[str, str], for_s: float | None, restore: Callable[[], object]) -> None:
        """Note a change that was made; for good without ``for_s``. shown: as it is and as it was."""
        if for_s is None:
            self.drop(what)
        else:
            self.begin(Override(what, *shown, time.time() + for_s, restore))

    def listed(self) -> list[Override]:
        """What will be undone, soonest first."""
        with self._changed:
            return sorted(self._held.values(), key=lambda each: each.until)

    def stop(self) -> None:
        """Undo nothing any more. Harmless twice, or before the first."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _main(self) -> None:
        while (due := self._wait()) is not None:
            for each in due:
                try:
                    each.restore()
                    log.warning("an override is over: %s is %s again", each.what, each.then)
                except Exception:  # boundary: one that cannot be undone must not keep the others
                    log.exception("an override could not be undone", extra={"what": each.what})

    def _wait(self) -> list[Override] | None:
        """Sleep until something ends; none once stopped."""
        with self._changed:
            while not self._stopped:
                now = time.time()
                due = [each for each in self._held.values() if each.until <= now]
                if due:
                    for each in due:
                        del self._held[each.what]
                    return due
                ends = [each.until for each in self._held.values()]
                # At most a minute: the wall clock may be set meanwhile.
                self._changed.wait(min(60.0, min(ends) - now) if ends else None)
        return None
