"""Signatures and workflows, under the names that Celery's module of this name has."""

from __future__ import annotations

from opsq.core.over_items import chunks, xmap, xstarmap
from opsq.core.signature import Signature, maybe_signature, signature, subtask
from opsq.core.stamping import StampingVisitor
from opsq.core.workflows import chain, chord, group

__all__ = [
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]
