"""Find the modules that declare tasks: named in the settings, or called ``tasks`` in given packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from opsq import plugins
from opsq.core.framework import framework, importing_tasks
from opsq.errors import UsageError
from opsq.settings import Settings

Packages = Iterable[str] | Callable[[], Iterable[str]] | None


class Discovery:
    """What an app imports before it works. Thread: one at a time, normally while starting."""

    def __init__(self) -> None:
        self._wanted: list[tuple[Packages, str | None]] = []

    def add(self, packages: Packages, related_name: str | None) -> None:
        """Remember to look in ``packages`` for a module of this name."""
        if isinstance(packages, str):
            raise UsageError(
                f"autodiscover_tasks takes a list of packages, got the text {packages!r}; write [{packages!r}]"
            )
        self._wanted.append((packages, related_name))

    def import_all(self, settings: Settings) -> None:
        """Import what ``imports``, ``include`` and ``autodiscover_tasks`` name. Raises: ConfigError."""
        with importing_tasks(settings):
            plugins.import_modules((*settings.imports, *settings.include))
            self.run()

    def run(self) -> list[ModuleType]:
        """Import what was asked for; packages without such a module are passed over.

        Raises: ConfigError when a module exists and cannot be imported.
        """
        found: list[ModuleType] = []
        for packages, related_name in self._wanted:
            for package in _listed(packages):
                module = _related(package, related_name)
                if module is not None:
                    found.append(module)
        return found


def _listed(packages: Packages) -> Iterable[str]:
    if packages is None:
        found = framework()
        return found.packages() if found is not None else ()
    return packages() if callable(packages) else packages


def _related(package: str, related_name: str | None) -> ModuleType | None:
    if not related_name:
        return plugins.import_if_present(package, origin="autodiscover_tasks")
    module = plugins.import_if_present(f"{package}.{related_name}", origin="autodiscover_tasks")
    if module is None and plugins.import_if_present(package, origin="autodiscover_tasks") is None:
        # Not a package, but what says which: an entry of INSTALLED_APPS may be `polls.apps.PollsConfig`. Of a package
        # that does not exist, nobody wants to hear "no tasks there".
        config: Any = plugins.resolve(package, origin="autodiscover_tasks")
        return plugins.import_if_present(f"{config.name}.{related_name}", origin="autodiscover_tasks")
    return module
