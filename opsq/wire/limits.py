"""How much a peer may send, checked before and while it is decoded.

Without bounds one message could fill the memory (a compressed bomb, a YAML alias bomb) or exhaust
the stack (ten thousand opening brackets) of every process that reads it.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from opsq.errors import MalformedMessage

MIB = 1024 * 1024
_CONTAINERS = frozenset({list, dict, tuple, set})


class Limits(Struct, frozen=True, kw_only=True):
    """The bounds of one decode.

    max_bytes: size as received, and after base64. max_decompressed_bytes: size after decompression.
    max_depth: containers inside containers. max_nodes: values in a document that may share parts
    (YAML aliases), and signatures in a canvas.
    """

    max_bytes: int = 64 * MIB
    max_decompressed_bytes: int = 256 * MIB
    max_depth: int = 100
    max_nodes: int = 1_000_000


DEFAULT_LIMITS = Limits()


def check_size(size_bytes: int, limits: Limits) -> None:
    """Refuse a body that is larger than allowed. Raises: MalformedMessage."""
    if size_bytes > limits.max_bytes:
        raise MalformedMessage(
            f"body has {size_bytes} bytes, at most {limits.max_bytes} are allowed (message_max_bytes)"
        )


def check_shape(value: object, limits: Limits, *, max_nodes: int | None = None) -> None:
    """Refuse a decoded value that is nested too deeply, or that repeats shared parts too often.

    Goes level by level, so that neither depth nor width nor a cycle can exhaust anything; the
    children of a level are counted before they are listed. Raises: MalformedMessage.
    """
    level: list[Any] = [value] if type(value) in _CONTAINERS else []
    nodes = 0
    for _depth in range(limits.max_depth):
        if not level:
            return
        if max_nodes is not None:
            nodes += sum(map(len, level))
            if nodes > max_nodes:
                raise MalformedMessage(f"document expands to more than {max_nodes} values")
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) in _CONTAINERS
        ]
    if level:
        raise MalformedMessage(f"nested deeper than {limits.max_depth} levels (message_max_depth)")
