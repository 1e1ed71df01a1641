"""Find the modules that declare tasks: named in the settings, or called ``tasks`` in given packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType

from opsq import plugins
from opsq.errors import UsageError

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

    def run(self) -> list[ModuleType]:
        """Import what was asked for; packages without such a module are passed over.

        Raises: ConfigError when a module exists and cannot be imported.
        """
        found: list[ModuleType] = []
        for packages, related_name in self._wanted:
            listed = packages() if callable(packages) else packages or ()
            for package in listed:
                name = f"{package}.{related_name}" if related_name else package
                module = plugins.import_if_present(name, origin="autodiscover_tasks")
                if module is None and related_name:
                    # Of a package that does not exist, nobody wants to hear "no tasks there".
                    plugins.import_module(package, origin="autodiscover_tasks")
                if module is not None:
                    found.append(module)
        return found
