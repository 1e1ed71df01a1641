"""Stamps: marks of one's own on every call of a workflow, by hand or by a visitor that sees each of them.

Source: celery-protocol A.9, celery-features 5.1. Stamps never change ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opsq.core.signature import Signature, maybe_signature
from opsq.core.workflows import chain, chord, group

Stamps = dict[str, Any]


class StampingVisitor:
    """Says how each part of a workflow is stamped: subclass it and return stamps by name.

    With a key ``stamped_headers`` only the names in it are stamps; the rest are plain headers.
    """

    def on_signature(self, sig: Any, **headers: Any) -> Stamps:
        """Stamps of a single call."""
        raise NotImplementedError("a stamping visitor defines on_signature()")

    def on_group_start(self, sig: Any, **headers: Any) -> Stamps:
        """Stamps of a group, before its members."""
        return {}

    def on_group_end(self, sig: Any, **headers: Any) -> None:
        """A group's members are stamped."""

    def on_chain_start(self, sig: Any, **headers: Any) -> Stamps:
        """Stamps of a chain, before its steps."""
        return {}

    def on_chain_end(self, sig: Any, **headers: Any) -> None:
        """A chain's steps are stamped."""

    def on_chord_header_start(self, sig: Any, **headers: Any) -> Stamps:
        """Stamps of a chord's header."""
        return self.on_group_start(sig.tasks, **headers)

    def on_chord_header_end(self, sig: Any, **headers: Any) -> None:
        """A chord's header is stamped."""
        self.on_group_end(sig.tasks, **headers)

    def on_chord_body(self, sig: Any, **headers: Any) -> Stamps:
        """Stamps of a chord's body."""
        return {}

    def on_callback(self, callback: Any, **headers: Any) -> Stamps:
        """Stamps of a callback."""
        return {}

    def on_errback(self, errback: Any, **headers: Any) -> Stamps:
        """Stamps of an error callback."""
        return {}


def stamp(sig: Signature, visitor: Any, append: bool, headers: Mapping[str, Any]) -> None:
    """Stamp a signature and everything in it."""
    if isinstance(sig, chord):
        _stamp_chord(sig, visitor, append, headers)
        return
    if isinstance(sig, (chain, group)):
        start, end = (
            ("on_chain_start", "on_chain_end") if isinstance(sig, chain) else ("on_group_start", "on_group_end")
        )
        stamps = _with(sig, _asked(visitor, start, sig, headers), append, headers)
        stamp_links(sig, visitor, append, stamps)
        for task in sig.tasks:
            stamp(task, visitor, append, stamps)
        if visitor is not None:
            getattr(visitor, end)(sig, **headers)
        return
    stamps = _with(sig, _asked(visitor, "on_signature", sig, headers), append, headers)
    stamp_links(sig, visitor, append, stamps)
    sig.set(**stamps)


def _stamp_chord(sig: chord, visitor: Any, append: bool, headers: Mapping[str, Any]) -> None:
    stamps = _with(sig, _asked(visitor, "on_chord_header_start", sig, headers), append, headers)
    stamp_links(sig, visitor, append, stamps)
    for task in sig.tasks.tasks:
        stamp(task, visitor, append, stamps)
    if visitor is not None:
        visitor.on_chord_header_end(sig, **headers)
    if sig.body is not None:
        stamps = _with(sig, _asked(visitor, "on_chord_body", sig, stamps), append, stamps)
        stamp(sig.body, visitor, append, stamps)


def stamp_links(sig: Signature, visitor: Any, append: bool, headers: Mapping[str, Any]) -> None:
    """Stamp the callbacks and error callbacks of a signature, theirs included."""
    for key, hook in (("link", "on_callback"), ("link_error", "on_errback")):
        links = sig.options.get(key)
        if not links:
            continue
        several = [links] if isinstance(links, Mapping) else list(links)
        made = [maybe_signature(link) for link in several]
        for link in made:
            stamps = _with(link, _asked(visitor, hook, link, headers), append, headers)
            stamp(link, visitor, append, stamps)
        sig.options[key] = made


def _asked(visitor: Any, hook: str, sig: Any, headers: Mapping[str, Any]) -> Stamps:
    return dict(getattr(visitor, hook)(sig, **headers) or {}) if visitor is not None else {}


def _with(sig: Signature, more: Stamps, append: bool, headers: Mapping[str, Any]) -> Stamps:
    """The stamps given so far with ``more``, and with those that the signature has already."""
    stamps = dict(headers)
    names = list(stamps.pop("stamped_headers", None) or stamps)
    added = list(more.pop("stamped_headers", None) or more)
    own = [name for name in sig.options.get("stamped_headers") or () if name in sig.options]
    _merge(stamps, more, append)
    _merge(stamps, {name: sig.options[name] for name in own}, append)
    stamps["stamped_headers"] = list(dict.fromkeys([*names, *added, *own]))
    return stamps


def _merge(stamps: Stamps, more: Mapping[str, Any], append: bool) -> None:
    for name, value in more.items():
        if name not in stamps:
            stamps[name] = value
        elif append and stamps[name] != value:
            stamps[name] = list(dict.fromkeys([*_several(stamps[name]), *_several(value)]))


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
