"""Where raw settings come from: a file, the environment, an object of the application.

Each reader returns a ``Source``: what was given, under which name, and exactly where, with nothing
interpreted yet. Pure except for reading the configuration file; the environment is passed in.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Final

from opsq.errors import Fault
from opsq.settings import OPTIONS
from opsq.settings_celery import ENVIRONMENT

ENV_PREFIX: Final = "OPSQ_"
OWN_ENV: Final[Mapping[str, str]] = {
    "OPSQ_CONFIG": "path of the configuration file, instead of looking for one",
}
"""Environment names with our prefix that are not settings."""
TEST_ENV: Final = "OPSQ_TEST_"
FILE_NAME: Final = "opsq.toml"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from.

    layer: "default", "file", "env", "code" or "command line". detail: the path and key, the
    variable's name, or the name as written.
    """

    layer: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.layer} {self.detail}".strip()


@dataclass(frozen=True, slots=True)
class Given:
    """One raw value: the key as written, the value, its origin, and whether it is mere text."""

    key: str
    value: object
    origin: Origin
    from_text: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """One place that gives settings.

    strict: every unknown key is a fault (the place is ours alone). namespace: see ``read_key``.
    faults: what went wrong while reading the place itself.
    """

    givens: tuple[Given, ...] = ()
    strict: bool = True
    namespace: str = ""
    faults: tuple[Fault, ...] = ()
    path: Path | None = None
    notices: tuple[str, ...] = ()


def from_mapping(values: Mapping[str, object], *, layer: str, detail: str = "", strict: bool = False) -> Source:
    """Settings given by name in code, or on the command line; None on the command line means not given."""
    cli = layer == "command line"
    return Source(
        tuple(
            Given(key, value, Origin(layer, detail or key), from_text=cli and isinstance(value, str))
            for key, value in values.items()
            if not (cli and value is None)
        ),
        strict=strict,
    )


def from_object(obj: object, *, detail: str = "", namespace: str = "") -> Source:
    """Settings that are attributes of a module or object, or keys of a mapping shared with others.

    Private names, modules, and functions and classes under names that are not settings are skipped:
    they are there because the module imports them.
    """
    where = detail or getattr(obj, "__name__", type(obj).__name__)
    pairs: Iterable[tuple[str, object]]
    if isinstance(obj, Mapping):
        pairs = ((str(key), value) for key, value in obj.items())
    else:
        pairs = ((name, getattr(obj, name)) for name in dir(obj) if not name.startswith("_"))
    return Source(
        tuple(
            Given(key, value, Origin("code", f"{where}: {key}"))
            for key, value in pairs
            if not key.startswith("_") and not _is_import(key, value)
        ),
        strict=False,
        namespace=namespace,
    )


def _is_import(key: str, value: object) -> bool:
    if isinstance(value, ModuleType) or key == "app":
        return True
    if isinstance(value, (type, FunctionType)):
        # `from datetime import timezone` must not set the time zone
        return key.lower() not in OPTIONS or key == "timezone"
    return False


def from_environ(environ: Mapping[str, str]) -> Source:
    """Settings in environment variables: ``OPSQ_<NAME>``, and the few that Celery reads.

    An empty variable gives nothing: that is how a compose file passes on what is not set.
    """
    givens, notices = [], []
    for variable, name in ENVIRONMENT.items():
        if not environ.get(variable):
            continue
        if environ.get(ENV_PREFIX + name.upper()):
            notices.append(f"{variable} is ignored because {ENV_PREFIX}{name.upper()} is set")
        else:
            givens.append(Given(name, environ[variable], Origin("env", variable), from_text=True))
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX) or variable in OWN_ENV or variable.startswith(TEST_ENV):
            continue
        if _is_service_link(variable, environ):
            continue
        key = variable[len(ENV_PREFIX) :].lower()
        if not environ[variable] and key in OPTIONS:
            continue
        givens.append(Given(key, environ[variable], Origin("env", variable), from_text=True))
    return Source(tuple(givens), notices=tuple(notices))


def _is_service_link(variable: str, environ: Mapping[str, str]) -> bool:
    """Tell Kubernetes' own variables from ours.

    A Service called ``opsq-web`` puts ``OPSQ_WEB_PORT=tcp://10.0.0.7:5555`` into every pod beside it;
    read as a setting it would stop the whole installation from starting.
    """
    for marker in ("_SERVICE_HOST", "_SERVICE_PORT", "_PORT"):
        base, found, _ = variable.partition(marker)
        if found and f"{base}_SERVICE_HOST" in environ:
            return marker != "_PORT" or "_PORT_" in variable or "://" in environ[variable]
    return False


def find_file(cwd: Path, environ: Mapping[str, str]) -> Source:
    """Read the nearest ``opsq.toml`` or ``pyproject.toml`` with ``[tool.opsq]``, from ``cwd`` upwards.

    ``OPSQ_CONFIG`` names another file. A file that cannot be read is a fault, never skipped.
    """
    named = environ.get("OPSQ_CONFIG")
    if named:
        return _read_file(cwd / named, Fault(f"no configuration file {named}", "env OPSQ_CONFIG"))
    for folder in (cwd, *cwd.parents):
        own, project = folder / FILE_NAME, folder / "pyproject.toml"
        if own.is_file():
            return _read_file(own)
        if project.is_file():
            source = _read_file(project)
            if source.givens or (source.faults and _mentions_us(project)):
                return source
    return Source()


def _mentions_us(path: Path) -> bool:
    """Whether a file that is not valid TOML is about us; other people's broken files are not our fault."""
    try:
        return "[tool.opsq" in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _read_file(path: Path, missing: Fault | None = None) -> Source:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Source(faults=(missing or Fault(f"{path} disappeared"),))
    except OSError as error:
        return Source(faults=(Fault(f"cannot read the configuration: {error.strerror}", f"file {path}"),))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return Source(faults=(Fault(f"not valid TOML: {error}", f"file {path}"),))
    table: object = document
    if path.name == "pyproject.toml":
        tool = document.get("tool", {})
        table = tool.get("opsq", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        return Source(faults=(Fault("expected [tool.opsq] to be a table", f"file {path}"),))
    return Source(tuple(Given(key, value, Origin("file", f"{path}: {key}")) for key, value in table.items()), path=path)
