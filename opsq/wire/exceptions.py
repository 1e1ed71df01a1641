"""Exceptions as stored results: written by name and arguments, read without importing anything.

Source: Celery protocol, section "Exceptions". opsq's error classes carry Celery's names, and are
written with Celery's modules, because a Celery client looks them up there.
"""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from opsq import errors
from opsq.errors import MalformedMessage, UsageError
from opsq.wire.content import DEFAULT_REGISTRY, PICKLE, ContentRegistry, dumps
from opsq.wire.saferepr import saferepr

_CELERY = "celery.exceptions"
_BILLIARD = "billiard.exceptions"
#: Module of the classes made for names that are not known here.
CREATED_MODULE = "opsq.exceptions"
_NAME_MAX_CHARS = 200
#: What a child of Celery's prefork pool sends for an error that cannot be pickled: module, name, arguments, text.
_WRAPPER = "UnpickleableExceptionWrapper"

#: opsq's class: (module, name) that Celery knows it by.
_ABROAD: Mapping[type[BaseException], tuple[str, str]] = MappingProxyType(
    {
        errors.SoftTimeLimitExceeded: (_BILLIARD, "SoftTimeLimitExceeded"),
        errors.TimeLimitExceeded: (_BILLIARD, "TimeLimitExceeded"),
        errors.WorkerLostError: (_BILLIARD, "WorkerLostError"),
        errors.Terminated: (_BILLIARD, "Terminated"),
        errors.Retry: (_CELERY, "Retry"),
        errors.Ignore: (_CELERY, "Ignore"),
        errors.Reject: (_CELERY, "Reject"),
        errors.TaskPredicate: (_CELERY, "TaskPredicate"),
        errors.TaskRevokedError: (_CELERY, "TaskRevokedError"),
        errors.MaxRetriesExceededError: (_CELERY, "MaxRetriesExceededError"),
        errors.ChordError: (_CELERY, "ChordError"),
        errors.NotRegistered: (_CELERY, "NotRegistered"),
        errors.ResultTimeout: (_CELERY, "TimeoutError"),
    }
)
_HOME: Mapping[str, type[BaseException]] = MappingProxyType({name: cls for cls, (_mod, name) in _ABROAD.items()})
#: Celery re-exports billiard's names, and fleets mix opsq with Celery, so any of these may be named.
_FOREIGN_MODULES = frozenset({_CELERY, _BILLIARD, CREATED_MODULE, "opsq.errors"})


def exception_to_wire(
    exc: BaseException, serializer: str = "json", registry: ContentRegistry = DEFAULT_REGISTRY
) -> Any:
    """Return what is stored for an exception: name, arguments, module; the object itself for pickle.

    An argument that the serializer cannot write is replaced by its repr. Never raises for the
    exception's sake. Raises: ConfigError for an unknown serializer.
    """
    if serializer == PICKLE.name and _travels_as_object(exc):
        return exc
    module, name = _ABROAD.get(type(exc), (type(exc).__module__, type(exc).__qualname__))
    return {"exc_type": name, "exc_message": _arguments(exc, serializer, registry), "exc_module": module}


def _travels_as_object(exc: BaseException) -> bool:
    # A Celery reader has no opsq to import, so our own classes go by name even under pickle.
    if type(exc).__module__.partition(".")[0] == "opsq":
        return False
    try:
        return type(pickle.loads(pickle.dumps(exc))) is type(exc)
    except Exception:  # noqa: BLE001  # boundary: an exception's own pickling code may raise anything
        return False


def _arguments(exc: BaseException, serializer: str, registry: ContentRegistry) -> list[Any]:
    args = list(exc.args)
    if _writable(args, serializer, registry):
        return args
    return [each if _writable(each, serializer, registry) else saferepr(each) for each in args]


def _writable(value: object, serializer: str, registry: ContentRegistry) -> bool:
    try:
        dumps(value, serializer, registry)
    except UsageError:
        return False
    return True


def exception_from_wire(stored: object) -> BaseException:
    """Rebuild a stored exception from classes that are already imported; nothing is imported.

    An unknown class becomes a new one of that name under ``opsq.exceptions``.
    Raises: MalformedMessage when the name is of something that is no exception class.
    """
    if isinstance(stored, BaseException):
        return stored
    if not isinstance(stored, dict):
        raise MalformedMessage(f"a stored exception must be an object, got {type(stored).__name__}")
    name, module = stored.get("exc_type"), stored.get("exc_module")
    if not isinstance(name, str) or not name:
        raise MalformedMessage("a stored exception must name its class", "$.exc_type")
    message = stored.get("exc_message")
    args = tuple(message) if isinstance(message, (list, tuple)) else (message,)
    if name == _WRAPPER and len(args) >= 3 and isinstance(args[1], str) and isinstance(args[2], (list, tuple)):
        module, name, args = args[0], args[1] or name, tuple(args[2])
    cls = _find_class(module, name) if isinstance(module, str) else _create_class(name)
    return _build(cls, args)


def _find_class(module: str, name: str) -> type[BaseException]:
    if module in _FOREIGN_MODULES and name in _HOME:
        return _HOME[name]
    found = _already_imported(module, name)
    if found is None:
        return _create_class(name)
    if not isinstance(found, type) or not issubclass(found, BaseException):
        raise MalformedMessage(
            f"{module[:_NAME_MAX_CHARS]}.{name[:_NAME_MAX_CHARS]} is not an exception class", "$.exc_type"
        )
    return found


def _already_imported(module: str, name: str) -> object:
    """Look a dotted name up without running code: no import, no module ``__getattr__``."""
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part) if isinstance(found, (type, type(sys))) else None
        if found is None:
            return None
    return found


def _create_class(name: str) -> type[BaseException]:
    last = name.rpartition(".")[2][:_NAME_MAX_CHARS]
    # A class name must not hold NUL or lone surrogates, and it is shown to people.
    plain = re.sub(r"\W", "_", last) or "UnknownError"
    return type(plain, (Exception,), {"__module__": CREATED_MODULE, "__doc__": f"Stood for {plain!r}, unknown here."})


def _build(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    try:
        return cls(*args)
    except Exception:  # noqa: BLE001  # boundary: a constructor may want other arguments, or raise anything
        return Exception(f"{cls.__name__}({', '.join(saferepr(each) for each in args)})")
