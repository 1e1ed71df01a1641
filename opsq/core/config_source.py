"""Where ``config_from_object`` reads: the object itself, or a path that is imported at first need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opsq import plugins
from opsq.errors import ConfigError, Fault
from opsq.settings_sources import Source, from_object


def object_source(obj: Any, silent: bool, namespace: str) -> Callable[[], Source]:
    """A function that reads the settings of ``obj``, once.

    silent: an object that cannot be imported gives no settings. The function raises ConfigError otherwise.
    """
    read: list[Source] = []

    def source() -> Source:
        if not read:
            read.append(_read(obj, silent, namespace))
        return read[0]

    return source


def _read(obj: Any, silent: bool, namespace: str) -> Source:
    if not isinstance(obj, str):
        return from_object(obj, namespace=namespace)
    try:
        found = _import(obj)
    except ConfigError:
        if silent:
            return Source(strict=False)
        raise
    try:
        return from_object(found, detail=obj, namespace=namespace)
    except Exception as error:  # boundary: Django's settings are a proxy, which imports the project's at first use
        problem = f"the settings of {obj} cannot be read: {type(error).__name__}: {error}"
        raise ConfigError([Fault(problem, f"config_from_object({obj!r})")]) from error


def _import(path: str) -> object:
    origin = f"config_from_object({path!r})"
    if ":" in path:
        return plugins.resolve(path, origin=origin)
    module = plugins.import_if_present(path, origin=origin)
    if module is not None or "." not in path:
        return module or plugins.import_module(path, origin=origin)
    return plugins.resolve(path, origin=origin)
