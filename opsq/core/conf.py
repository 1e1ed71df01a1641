"""``app.conf``: the settings of one app, writable until the app is finalised.

Values are layered by ``settings_load``; this keeps what the code gave, by name or as whole objects,
and asks the loader again when something changed. After the first use of the app the settings are
frozen: a change then would hold for some parts of the process and not for others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from copy import copy
from typing import Any

from opsq.core.task_options import did_you_mean
from opsq.errors import UsageError
from opsq.settings import OPTIONS, Settings
from opsq.settings_celery import read_key
from opsq.settings_load import Loaded, load
from opsq.settings_sources import Source


class Conf(MutableMapping[str, Any]):
    """Settings by name, as attributes or keys.

    Thread: any. Reading does not freeze; ``freeze`` does.
    """

    _own = frozenset({"_app", "_code", "_cli", "_objects", "_loaded", "_lent", "_frozen", "_lock", "_extra"})

    def __init__(self, app: str, code: Mapping[str, object]) -> None:
        self._app = app
        self._code: dict[str, object] = {}
        self._cli: dict[str, object] = {}
        self._objects: list[Callable[[], Source]] = []
        self._extra: dict[str, object] = {}
        self._lent: dict[str, tuple[object, object]] = {}
        self._loaded: Loaded | None = None
        self._frozen = False
        self._lock = threading.RLock()
        for name, value in code.items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        known = _known(name)
        if known is None:
            loaded = self.load()
            if name in self._extra:
                return self._extra[name]
            if name in loaded.foreign:
                return loaded.foreign[name]
            raise KeyError(f"there is no setting {name!r}{did_you_mean(name, OPTIONS)}")
        if self._frozen:
            return getattr(self.load().settings, known)
        return self._lend(known)

    def __setitem__(self, name: str, value: object) -> None:
        known = _known(name)
        with self._lock:
            self._refuse_if_frozen(name)
            if known is None and (hint := did_you_mean(name, OPTIONS)):
                raise UsageError(f"there is no setting {name!r}{hint}")
            if known is None:
                self._extra[name] = value
                return
            self._lent.pop(known, None)
            self._code[known] = value
            self._loaded = None

    def __delitem__(self, name: str) -> None:
        with self._lock:
            self._refuse_if_frozen(name)
            self._code.pop(_known(name) or name, None)
            self._extra.pop(name, None)
            self._loaded = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in Conf._own:
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(str(error.args[0])) from None

    def __setattr__(self, name: str, value: object) -> None:
        if name in Conf._own:
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def __iter__(self) -> Iterator[str]:
        return iter((*OPTIONS, *self._extra))

    def __len__(self) -> int:
        return len(OPTIONS) + len(self._extra)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (_known(name) is not None or name in self._extra)

    def __repr__(self) -> str:
        return f"<Conf of {self._app}: {self.load().settings!r}>"

    def add_object(self, source: Callable[[], Source]) -> None:
        """Take the settings of an object, read at first need; what is set by name wins over it."""
        with self._lock:
            self._refuse_if_frozen("config_from_object")
            self._objects.append(source)
            self._loaded = None

    def apply_cli(self, values: Mapping[str, object]) -> None:
        """Put the command line's values on top. Raises: UsageError when the app is in use already."""
        with self._lock:
            if values:
                self._refuse_if_frozen(", ".join(sorted(values)))
            self._cli.update(values)
            self._loaded = None

    def load(self) -> Loaded:
        """Put all layers together and check them. Raises: ConfigError with every fault."""
        with self._lock:
            if self._loaded is None or (self._lent and not self._frozen):
                self._take_back()
                self._loaded = self._loaded or load(
                    code=self._code, cli=self._cli, shared=[source() for source in self._objects]
                )
            return self._loaded

    def freeze(self) -> Settings:
        """Fix the settings for good and return them. Raises: ConfigError with every fault."""
        with self._lock:
            loaded = self.load()
            self._frozen = True
            return loaded.settings

    def humanize(self, with_defaults: bool = False) -> str:
        """List the settings one a line, secrets starred."""
        loaded = self.load()
        masked = loaded.settings.masked()
        names = OPTIONS if with_defaults else loaded.given()
        return "\n".join(f"{name}: {masked[name]!r}" for name in names)

    def _lend(self, name: str) -> Any:
        """Read a value; a table or list is lent as a copy, and what the reader changes in it counts."""
        with self._lock:
            if name in self._lent:
                return self._lent[name][0]
            value = self._code[name] if name in self._code else getattr(self.load().settings, name)
            if isinstance(value, (dict, list)):
                self._lent[name] = (copy(value), copy(value))
                return self._lent[name][0]
            return value

    def _take_back(self) -> None:
        for name, (now, before) in self._lent.items():
            if now != before:
                self._code[name] = copy(now)
                self._lent[name] = (now, copy(now))
                self._loaded = None

    def _refuse_if_frozen(self, what: str) -> None:
        if self._frozen:
            raise UsageError(
                f"{what} cannot change: app {self._app!r} is in use, and its settings were fixed at first use; "
                "set it before the first call, or create another app"
            )


def _known(name: str) -> str | None:
    """Today's name of a setting, from its own or an old name; none when there is no such setting."""
    return name if name in OPTIONS else read_key(name).name
