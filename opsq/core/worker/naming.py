"""Names with marks in them: of nodes, and of the files of a node."""

from __future__ import annotations

import socket

from opsq.logs import file_name

__all__ = ["file_name", "node_name"]


def node_name(pattern: str) -> str:
    """Fill in a node name: ``%h`` host, ``%n`` its first part, ``%d`` its domain."""
    host = socket.gethostname()
    first, _, domain = host.partition(".")
    if "@" not in pattern:
        pattern = f"{pattern}@%h"
    return pattern.replace("%h", host).replace("%n", first).replace("%d", domain).replace("%%", "%")
