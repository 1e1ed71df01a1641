"""Read every module of opsq as text: its imports, functions and classes. Nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "opsq"


@dataclass(frozen=True)
class Import:
    """One imported module, with where and how it is imported."""

    target: str
    line: int
    in_function: bool
    type_only: bool


@dataclass(frozen=True)
class Module:
    """One source file of opsq."""

    name: str
    path: Path

    @cached_property
    def source(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, str(self.path))

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(self._walk(self.tree, in_function=False, type_only=False))

    def _walk(self, node: ast.AST, *, in_function: bool, type_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, in_function, type_only)
            elif isinstance(child, ast.ImportFrom):
                yield from self._import_from(child, in_function, type_only)
            else:
                inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                typed = type_only or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test))
                yield from self._walk(child, in_function=inside, type_only=typed)

    def _import_from(self, node: ast.ImportFrom, in_function: bool, type_only: bool) -> Iterator[Import]:
        base = node.module or ""
        if node.level:
            parts = self.package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1] + ([node.module] if node.module else []))
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            known = submodule in MODULE_NAMES
            yield Import(submodule if known else base, node.lineno, in_function, type_only)


def _name_of(path: Path) -> str:
    relative = path.relative_to(ROOT).with_suffix("")
    parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
    return ".".join(parts)


_PATHS = sorted(PACKAGE.rglob("*.py"))
MODULE_NAMES = frozenset(_name_of(path) for path in _PATHS)
MODULES = tuple(Module(_name_of(path), path) for path in _PATHS)
