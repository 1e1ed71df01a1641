"""Live pages as many viewers see them at once: what they share is read and written once, whoever keeps it open.

A hundred browsers on one page cost as much as one, but for sending. Thread: any.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

from opsq.web.deps import Deps
from opsq.web.pages import Made, Page, make_page
from opsq.web.render import Renderer
from opsq.web.view_common import Ask

#: Viewers who ask within so long see the same.
SHARE_S: Final = 0.19
MOST_PAGES: Final = 64
_DIGEST_BYTES: Final = 12


class Moment:
    """A page of one moment, and the parts of it that were written. version: of the feed when it was read."""

    def __init__(self, made: Made, version: int, at: float, renderer: Renderer) -> None:
        self.made = made
        self.version = version
        self.at = at
        self._renderer = renderer
        self._lock = threading.Lock()
        self._context = made.context()
        self._written: dict[Hashable, tuple[str, bytes]] = {}

    def write(self, template: str, key: Hashable = None, **more: Any) -> tuple[str, bytes]:
        """Give a template's text and a digest of it. key: tells apart what ``more`` makes of the same template."""
        with self._lock:
            found = self._written.get((template, key))
            if found is None:
                text = self._renderer.write(template, {**self._context, **more})
                digest = hashlib.blake2s(text.encode(), digest_size=_DIGEST_BYTES).digest()
                found = self._written[template, key] = text, digest
        return found


class _Turn:
    """What is shared of one page, and the right to read it anew."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.moment: Moment | None = None


class Moments:
    """The pages that are open now."""

    def __init__(self, deps: Deps, renderer: Renderer) -> None:
        self._deps = deps
        self._renderer = renderer
        self._lock = threading.Lock()
        self._turns: OrderedDict[tuple[str, Ask], _Turn] = OrderedDict()

    def now(self, page: Page, ask: Ask) -> Moment:
        """Give the page as it is, at most ``SHARE_S`` seconds old. Raises HTTPException 404, StoreUnavailable."""
        key = page.name, ask
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            self._turns.move_to_end(key)
            if len(self._turns) > MOST_PAGES:
                self._turns.popitem(last=False)
        # The others wait for the one that reads: all at once they would all wait longer.
        with turn.lock:
            at, moment = self._deps.clock.monotonic(), turn.moment
            if moment is None or at - moment.at >= SHARE_S:
                version = self._deps.feed.version
                moment = Moment(make_page(page, self._deps, ask), version, at, self._renderer)
                turn.moment = moment
        return moment
