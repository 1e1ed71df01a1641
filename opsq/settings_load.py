"""Put the settings together, once, and say everything that is wrong with them at the same time.

defaults < configuration file < environment < code < command line. The only module that reads
``os.environ``. Thread: any; nothing is cached.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from opsq.errors import ConfigError, Fault
from opsq.settings import OPTIONS, Settings
from opsq.settings_celery import Reading, read_key
from opsq.settings_checks import Conflict, advice, conflicts
from opsq.settings_sources import ENV_PREFIX, Given, Origin, Source, find_file, from_environ, from_mapping
from opsq.settings_values import coerce

DEFAULT: Final = Origin("default")
NEAR: Final = 0.84
"""How alike (0..1) a key in shared code must be to a setting to count as a misspelling of it."""
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that passed every check.

    origins: where each value came from, by name. notices: sentences the operator should see once.
    foreign: keys of the application's own found among the settings in code. path: the
    configuration file, if one was found.
    """

    settings: Settings
    origins: Mapping[str, Origin]
    notices: list[str]
    foreign: Mapping[str, object] = field(default_factory=dict)
    path: Path | None = None

    def given(self) -> dict[str, object]:
        """Values that somebody set, by name."""
        return {name: getattr(self.settings, name) for name, origin in self.origins.items() if origin != DEFAULT}


@dataclass(slots=True)
class _Merge:
    """Values, origins and complaints, while the sources are read one after another."""

    values: dict[str, object] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    foreign: dict[str, object] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def take(self, source: Source) -> None:
        """Merge ``source`` over what is there."""
        self.faults += source.faults
        self._notice(source.notices)
        written: dict[str, Given] = {}
        for given in source.givens:
            if source.strict:
                reading = Reading(given.key if given.key in OPTIONS else None, candidates=tuple(OPTIONS))
            else:
                reading = read_key(given.key, source.namespace)
            if reading.notice:
                self._notice([f"{reading.notice} (from {given.origin})"])
            if reading.name is None:
                self._unknown(given, reading, source.strict)
            elif reading.name in written:
                self._twice(reading.name, written[reading.name], given)
            else:
                written[reading.name] = given
                self._set(reading.name, given)

    def _set(self, name: str, given: Given) -> None:
        info = OPTIONS[name]
        try:
            self.values[name] = coerce(info, given.value, from_text=given.from_text)
        except ValueError as error:
            self.faults.append(Fault(str(error), str(given.origin)))
            return
        self.origins[name] = given.origin
        if info.inert and self.values[name] != info.default:
            self._notice([f"{name} has no effect: {info.inert} (from {given.origin})"])

    def _unknown(self, given: Given, reading: Reading, strict: bool) -> None:
        near = nearest(given.key, reading.candidates, 0.6 if strict else NEAR)
        if near and not reading.foreign:
            near = ENV_PREFIX + near.upper() if given.origin.layer == "env" else near
            self.faults.append(Fault(f"unknown setting {given.key}", str(given.origin), f"did you mean {near}?"))
        elif strict:
            self.faults.append(
                Fault(f"unknown setting {given.key}", str(given.origin), "`opsq config show` lists them all")
            )
        elif not reading.notice:
            self.foreign[given.key] = given.value

    def _twice(self, name: str, first: Given, second: Given) -> None:
        self.faults.append(
            Fault(f"{name} is set twice, as {first.key} and as {second.key}", str(second.origin), f"keep only {name}")
        )

    def _notice(self, notices: Iterable[str]) -> None:
        self.notices += [notice for notice in notices if notice not in self.notices]


def load(
    *,
    code: Mapping[str, object] = _NOTHING,
    cli: Mapping[str, object] = _NOTHING,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    shared: Sequence[Source] = (),
) -> Loaded:
    """Return the settings of this process, checked.

    code: values the application gave by name. cli: values of command line options, None meaning not
    given. environ and cwd: the process's own unless given. shared: objects from
    ``config_from_object``, made by ``settings_sources.from_object``; ``code`` wins over them.
    Raises: ConfigError with every fault, each with its origin and what to do.
    """
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    file = find_file(cwd, environ)
    merge = _Merge()
    for source in (
        file,
        from_environ(environ),
        *shared,
        from_mapping(code, layer="code"),
        from_mapping(cli, layer="command line", strict=True),
    ):
        merge.take(source)
    _anchor_data_dir(merge, cwd, file.path)
    settings = Settings().replace(**merge.values)
    merge.faults += [_with_origins(conflict, merge.origins) for conflict in conflicts(settings)]
    if merge.faults:
        raise ConfigError(merge.faults)
    origins = {name: merge.origins.get(name, DEFAULT) for name in OPTIONS}
    return Loaded(settings, origins, merge.notices + advice(settings), merge.foreign, file.path)


def variable(name: str, *, optional: bool = False) -> str | None:
    """Return an environment variable that names a settings module; None when unset and ``optional``.

    Raises: ConfigError when it is unset.
    """
    value = os.environ.get(name) or None
    if value is None and not optional:
        raise ConfigError(f"environment variable {name} is not set; it should name the module with the settings")
    return value


def nearest(key: str, names: Sequence[str], at_least: float) -> str | None:
    """Return the name most like ``key``, whatever its case; None when none is alike enough (0..1)."""
    by_lower = {name.lower(): name for name in reversed(names)}
    found = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=at_least)
    return by_lower[found[0]] if found else None


def _anchor_data_dir(merge: _Merge, cwd: Path, path: Path | None) -> None:
    """Make ``data_dir`` absolute: a process that changes its folder later must not lose its data.

    A folder named in a file is relative to that file, so that all commands of a project share it.
    """
    given = merge.values.get("data_dir", OPTIONS["data_dir"].default)
    from_file = path is not None and merge.origins.get("data_dir", DEFAULT).layer == "file"
    base = path.parent if from_file and path is not None else cwd
    merge.values["data_dir"] = os.path.abspath(base / os.path.expanduser(str(given)))


def _with_origins(conflict: Conflict, origins: Mapping[str, Origin]) -> Fault:
    places = [f"{origins[name]}" for name in conflict.names if name in origins]
    return Fault(conflict.problem, "; ".join(places), conflict.remedy)
