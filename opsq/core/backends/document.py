"""Tell the state of a stored document without decoding it.

A store of bytes has to know whether a SUCCESS is there, and the document may be of any serializer, ours or
Celery's.
"""

from __future__ import annotations

import re
from typing import Final

_LOOK_AT: Final = 200
# JSON, YAML, pickle and msgpack all keep both words readable, in this order; a task's own value comes later.
# The first form is pickle's protocol 2, which Celery writes.
_STATE: Final = re.compile(rb"status(?:q.X.{4}|[\"'\x94\x8c\xa0-\xbf\x00-\x20:.]*)([A-Z_]*)", re.DOTALL)


def is_success(stored: bytes) -> bool:
    """Whether a SUCCESS is stored, as far as it can be told without decoding it.

    A compressed document counts as replaceable, which costs a late duplicate its protection, not anybody's data.
    """
    found = _STATE.search(stored[:_LOOK_AT])
    return found is not None and found[1] == b"SUCCESS"
