"""Logging: the app's own, instead of opsq's. Import this module where the app is made.

With a receiver of ``setup_logging`` a worker leaves logging alone, in the main process and in its children.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from opsq.signals import setup_logging


@setup_logging.connect
def to_my_taste(loglevel: Any = None, **_: Any) -> None:
    """Short lines that begin with the process id, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"[{os.getpid()}] %(levelname).1s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(loglevel or "INFO")
