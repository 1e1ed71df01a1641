"""Serializers and compressions that do not come with opsq: which there are, and what keeps them from doing harm.

A setting names them, as ``module:NAME`` or as an entry point's name. What only happens to be installed is not
loaded: a plugin decodes bytes of strangers, and looking through all installed packages takes 20 ms at each start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import structs

from opsq import plugins
from opsq.errors import ConfigError, Fault, MalformedMessage, UsageError
from opsq.settings import Settings
from opsq.wire.compression import Compressor
from opsq.wire.content import ContentRegistry, Serializer
from opsq.wire.limits import Limits

SERIALIZERS: Final = "opsq.serializers"
COMPRESSIONS: Final = "opsq.compressions"


def with_added(settings: Settings, base: ContentRegistry) -> ContentRegistry:
    """Return ``base`` with what the settings name besides.

    That is ``extra_serializers`` and ``extra_compressions``, and a name in another setting that only an entry
    point knows. Raises: ConfigError for what cannot be loaded or is of the wrong kind.
    """
    used = [settings.task_serializer, settings.result_serializer, *settings.accept_content]
    unknown = [name for name in (*used, *(settings.result_accept_content or ())) if not _knows(base, name)]
    serializers = _loaded(SERIALIZERS, "extra_serializers", settings.extra_serializers, unknown, Serializer)
    packed = [settings.task_compression, settings.result_compression]
    unpackable = [name for name in packed if name and name not in base.compressions]
    compressors = _loaded(COMPRESSIONS, "extra_compressions", settings.extra_compressions, unpackable, Compressor)
    if not serializers and not compressors:
        return base
    return base.plus(*map(_guarded, serializers)).compressing(*map(_contained, compressors))


def _knows(base: ContentRegistry, name: str) -> bool:
    return name in base.by_name or "/" in name


def _loaded(group: str, setting: str, named: Iterable[str], unknown: list[str], kind: type[Any]) -> list[Any]:
    found = {name: plugins.choose(group, name, {}, origin=setting) for name in named}
    if set(unknown) - found.keys():
        installed = plugins.load_group(group)
        # What nobody knows is refused where it is used, with the names of those that there are.
        found.update((name, installed[name]) for name in unknown if name in installed)
    wrong = {name: value for name, value in found.items() if not isinstance(value, kind)}
    if wrong:
        raise ConfigError(
            [
                Fault(f"expected {name} to be a {kind.__name__}, got {type(value).__name__}", setting)
                for name, value in wrong.items()
            ]
        )
    return list(found.values())


def _guarded(serializer: Serializer) -> Serializer:
    """The same one, raising nothing but what the callers of a serializer expect."""

    def write(value: object) -> bytes:
        try:
            return serializer.write(value)
        except Exception as error:
            raise UsageError(f"cannot be written as {serializer.name}: {error}") from error

    def read(data: bytes, limits: Limits) -> object:
        try:
            return serializer.read(data, limits)
        except MalformedMessage:
            raise
        except Exception as error:  # boundary: a peer's bytes must not take the loop down with them
            raise MalformedMessage(f"expected {serializer.name}: {type(error).__name__}: {error}") from error

    return structs.replace(serializer, write=write, read=read)


def _contained(compressor: Compressor) -> Compressor:
    """The same one, for whose failures ``decompress`` is prepared."""
    expand: Callable[[bytes, int], tuple[bytes, bool]] = compressor.expand

    def contained(data: bytes, limit_bytes: int) -> tuple[bytes, bool]:
        try:
            return expand(data, limit_bytes)
        except Exception as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error

    return structs.replace(compressor, expand=contained)
