"""Signatures and workflows, under the names that Celery's module of this name has."""

from __future__ import annotations

from opsq.core.signature import Signature, chain, group, maybe_signature, signature, subtask

__all__ = ["Signature", "chain", "group", "maybe_signature", "signature", "subtask"]
