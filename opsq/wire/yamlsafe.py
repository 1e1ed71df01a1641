"""YAML with plain values only, and without the documents that are small on the wire and huge in memory.

Merge keys are refused (they multiply while parsing, and no serializer writes them); aliases are
allowed, because a value used twice is written as one, but what they expand to is bounded.
"""

from __future__ import annotations

from opsq.errors import ConfigError, MalformedMessage, UsageError
from opsq.wire.limits import Limits, check_shape

try:
    import yaml
except ImportError:
    yaml = None  # type: ignore[assignment]

AVAILABLE = yaml is not None
MISSING = "serializer 'yaml' needs a library to be installed: pip install \"opsq[yaml]\""

if AVAILABLE:

    class _Loader(yaml.SafeLoader):
        """Builds plain values; no classes, no merge keys."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Refuse ``<<`` instead of merging."""
            for key, _value in node.value:
                if key.tag == "tag:yaml.org,2002:merge":
                    raise yaml.constructor.ConstructorError(None, None, "merge keys are not accepted", key.start_mark)


def dumps_yaml(value: object) -> bytes:
    """Write plain values as YAML. Raises: UsageError, ConfigError without the library."""
    if not AVAILABLE:
        raise ConfigError(MISSING)
    try:
        return yaml.safe_dump(value).encode("utf-8")
    except (yaml.YAMLError, RecursionError, UnicodeEncodeError) as error:
        raise UsageError(f"cannot be written as YAML: {error}; pass plain values") from error


def loads_yaml(data: bytes, limits: Limits) -> object:
    """Read YAML of plain values. Raises: MalformedMessage, and nothing else."""
    if not AVAILABLE:
        raise MalformedMessage(MISSING)
    try:
        value: object = yaml.load(data, Loader=_Loader)
    except RecursionError:
        raise MalformedMessage("YAML is nested too deeply") from None
    except Exception as error:  # noqa: BLE001  # boundary: the library raises many kinds on bad input
        raise MalformedMessage(f"expected YAML: {' '.join(str(error).split())[:200]}") from None
    check_shape(value, limits, max_nodes=limits.max_nodes)
    return value
