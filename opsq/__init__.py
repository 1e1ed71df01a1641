"""opsq: background jobs for Python, and knowing what they are doing."""

from opsq.core.app import Opsq
from opsq.core.current import current_app, current_task
from opsq.core.origin import new_id as uuid
from opsq.core.over_items import chunks, xmap, xstarmap
from opsq.core.shared import shared_task
from opsq.core.signature import Signature, maybe_signature, signature, subtask
from opsq.core.task import Task
from opsq.core.workflows import chain, chord, group
from opsq.errors import OpsqError

__version__ = "0.1.0"

Celery = Opsq

__all__ = [
    "Celery",
    "Opsq",
    "OpsqError",
    "Signature",
    "Task",
    "__version__",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "subtask",
    "uuid",
    "xmap",
    "xstarmap",
]
