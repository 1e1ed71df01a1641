"""What a failure looks like to people and to machines: text, traceback, fingerprint. Pure.

An exception comes from a task, so nothing about it can be trusted: its repr may raise, be a
gigabyte, or never end.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from types import TracebackType

import msgspec

TRACEBACK_MAX_CHARS = 16_000
REPR_MAX_CHARS = 1024
#: What differs between messages of the same cause: ids, addresses, numbers, and whatever stands in quotes.
_VARIABLE = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|0x[0-9a-fA-F]+"
    r"|'[^'\n]*'|\"[^\"\n]*\"|\b[0-9a-fA-F]{16,}\b|\d+"
)
_TEMPLATE_CHARS = 200
_OURS = ("/opsq/core/worker/", "/opsq/core/pools/", "/asyncio/runners.py", "/asyncio/base_events.py")


class Failure(msgspec.Struct, frozen=True):
    """One exception, described. traceback: as printed, at most 16,000 characters."""

    exception: BaseException
    text: str
    traceback: str
    fingerprint: str


def describe(exc: BaseException) -> Failure:
    """Describe ``exc``. Never raises."""
    return Failure(exc, exception_text(exc), traceback_text(exc), fingerprint(exc))


def exception_text(exc: BaseException) -> str:
    """A bounded repr of ``exc``, a substitute when it has none."""
    try:
        text = repr(exc)
    except BaseException as broken:  # noqa: BLE001 boundary: a user's __repr__ may raise anything, SystemExit too
        return f"<{type(exc).__name__}: its repr raised {type(broken).__name__}>"
    return text if len(text) <= REPR_MAX_CHARS else text[: REPR_MAX_CHARS - 3] + "..."


def traceback_text(exc: BaseException) -> str:
    """The traceback as Python prints it, without our own frames; cut in the middle when too long."""
    try:
        lines = traceback.format_exception(type(exc), exc, user_frames(exc.__traceback__))
        text = "".join(lines)
    except BaseException as broken:  # noqa: BLE001 boundary: formatting calls the exception's own __str__
        return f"{type(exc).__name__}: its traceback could not be printed ({type(broken).__name__})\n"
    if len(text) <= TRACEBACK_MAX_CHARS:
        return text
    half = TRACEBACK_MAX_CHARS // 2
    return f"{text[:half]}\n  ... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def user_frames(tb: TracebackType | None) -> TracebackType | None:
    """Skip the frames of opsq that lead to the task's own code; all of them when nothing else is there."""
    step = tb
    while step is not None and any(part in step.tb_frame.f_code.co_filename for part in _OURS):
        step = step.tb_next
    return step if step is not None else tb


def fingerprint(exc: BaseException) -> str:
    """Sixteen hex digits that are equal for failures of the same type and message from the same place.

    Line numbers and directories are left out, so that it survives a release; of the message, what
    differs from case to case, see ``template``.
    """
    parts = [type(exc).__module__, type(exc).__qualname__]
    step = user_frames(exc.__traceback__)
    frames = 0
    while step is not None and frames < 64:
        code = step.tb_frame.f_code
        parts.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{code.co_qualname}")
        step = step.tb_next
        frames += 1
    parts.append(template(exc))
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=8).hexdigest()


def template(exc: BaseException) -> str:
    """The message of ``exc`` without ids, numbers and quoted parts, at most 200 characters. Never raises."""
    try:
        text = str(exc)
    except BaseException:  # noqa: BLE001 boundary: a user's __str__ may raise anything, SystemExit too
        return ""
    return _VARIABLE.sub("#", text[: _TEMPLATE_CHARS * 4])[:_TEMPLATE_CHARS]
