"""What makes two failures the same: a fingerprint, and the message with its particulars left out. Pure.

opsq workers send a fingerprint (exception type and frames). For Celery's it is made here from the printed traceback:
the exception's type and every frame's file name and function, without line numbers, directories and messages, so
that it survives a release; without frames the message decides, its numbers, ids and quoted parts left out.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

LONGEST_TEMPLATE: Final = 200
_LONGEST_FINGERPRINT: Final = 64
_LONGEST_READ: Final = 32_768
_FRAME: Final = re.compile(r'^ *File "([^"\n]{1,1024})", line \d+, in ([^\n]{1,256})$', re.MULTILINE)
#: Celery's own frames lead to every task alike.
_CARRIERS: Final = ("/celery/app/", "/billiard/", "/opsq/core/")
_TYPE: Final = re.compile(r"[A-Za-z_][\w.]{0,200}")
_PARTICULARS: Final = re.compile(
    r"'(?:[^'\\\n]|\\.){0,500}'|\"(?:[^\"\\\n]|\\.){0,500}\"|0x[0-9a-fA-F]+|"
    r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b|\b[0-9a-fA-F]{12,}\b|\d+(?:\.\d+)?"
)


def exception_type(exception: str | None) -> str:
    """The name before the bracket of an exception's repr; ``?`` when there is none."""
    found = _TYPE.match(exception or "")
    return found.group() if found else "?"


@lru_cache(maxsize=512)
def template(exception: str) -> str:
    """The message without numbers, ids and quoted parts, at most ``LONGEST_TEMPLATE`` characters."""
    return _PARTICULARS.sub(_placeholder, exception[: 4 * LONGEST_TEMPLATE])[:LONGEST_TEMPLATE]


def _placeholder(found: re.Match[str]) -> str:
    text = found.group()
    # A whole message in quotes is the message: look into it instead of leaving nothing.
    if text[0] in "'\"" and len(text) > 2 and " " in text:
        return text[0] + _PARTICULARS.sub("#", text[1:-1]) + text[0]
    return "#"


def fault_of(exception: str | None, traceback: str | None, fingerprint: str | None) -> str:
    """The error group of a failure. Equal for failures of the same cause, whichever worker tells."""
    if fingerprint:
        return fingerprint[:_LONGEST_FINGERPRINT]
    return _fault_of_texts((exception or "")[:1024], (traceback or "")[:_LONGEST_READ])


@lru_cache(maxsize=512)
def _fault_of_texts(exception: str, traceback: str) -> str:
    frames = [
        f"{path.replace(chr(92), '/').rsplit('/', 1)[-1]}:{function}"
        for path, function in _FRAME.findall(traceback)
        if not any(carrier in path for carrier in _CARRIERS)
    ]
    parts = [exception_type(exception), *(frames or [template(exception)])]
    return blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=8).hexdigest()
