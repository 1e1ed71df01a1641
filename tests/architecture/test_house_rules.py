"""Sizes, state and words: the house rules of design.md section 5 that a machine can keep."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.modules import MODULES, ROOT, Module

# Tables may be long: one row per setting, event or metric.
LONG_TABLES = frozenset({"opsq.settings", "opsq.settings_celery", "opsq.wire.event"})
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7
# Public signatures that Celery's names fix.
WIDE_BY_NAME = frozenset({"__init__", "apply_async", "send_task", "retry", "option", "get", "apply"})
# Process-wide state lives in these two modules and nowhere else (design.md decision 1).
MAY_HOLD_STATE = frozenset({"opsq.core.registry", "opsq.signals"})
GRAB_BAGS = frozenset({"utils", "helpers", "common", "misc", "manager", "util"})


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_module_is_one_thing(module: Module) -> None:
    if module.name not in LONG_TABLES:
        lines = module.source.count("\n")
        assert lines <= MAX_MODULE_LINES, f"{module.name} has {lines} lines; split it by decision"


def _functions(module: Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_functions_are_short_and_narrow(module: Module) -> None:
    wrong = []
    for node in _functions(module):
        body = node.body[1:] if ast.get_docstring(node) else node.body
        length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
        if length > MAX_FUNCTION_LINES:
            wrong.append(f"{node.name} has {length} lines")
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        if count > MAX_PARAMETERS and node.name not in WIDE_BY_NAME:
            wrong.append(f"{node.name} takes {count} parameters")
    assert not wrong, f"{module.name}: " + "; ".join(wrong)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_public_things_have_docstrings(module: Module) -> None:
    missing = [] if ast.get_docstring(module.tree) else ["the module itself"]
    defined = [n for n in module.tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    documented = {node.name for node in defined if ast.get_docstring(node)}  # overloads leave it to the last one
    missing += [node.name for node in defined if not node.name.startswith("_") and node.name not in documented]
    assert not missing, f"{module.name}: no docstring on {', '.join(missing)}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_no_mutable_module_state(module: Module) -> None:
    if module.name in MAY_HOLD_STATE:
        return
    wrong = []
    for node in module.tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        names = [t.id for t in getattr(node, "targets", [getattr(node, "target", None)]) if isinstance(t, ast.Name)]
        if names == ["__all__"]:
            continue
        constant = all(name.lstrip("_").isupper() for name in names)
        annotated_final = isinstance(node, ast.AnnAssign) and any(
            word in ast.dump(node.annotation) for word in ("Final", "Mapping", "TypeAlias")
        )
        if isinstance(value, ast.List | ast.Set | ast.ListComp | ast.SetComp):
            wrong.append(f"{names} at line {node.lineno} should be a tuple or frozenset")
        elif isinstance(value, ast.Dict | ast.DictComp) and not (constant or annotated_final):
            wrong.append(f"{names} at line {node.lineno} should be an upper-case table")
    writes = [node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.Global)]
    wrong += [f"`global` at line {line}" for line in writes]
    assert not wrong, f"{module.name}: " + "; ".join(wrong)


def test_no_grab_bags() -> None:
    wrong = [m.name for m in MODULES if m.name.rpartition(".")[2] in GRAB_BAGS and m.name != "opsq.utils"]
    assert not wrong, f"name these by what they answer: {wrong}"


def test_broad_excepts_are_marked_boundaries() -> None:
    wrong = []
    for module in MODULES:
        lines = module.source.splitlines()
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            around = " ".join(lines[max(0, node.lineno - 2) : node.body[0].lineno + 1])
            reraises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            if broad and not reraises and "boundary:" not in around:
                wrong.append(f"{module.name}:{node.lineno}")
    assert not wrong, f"mark each with `# boundary: why`, or catch what you expect: {wrong}"


def test_no_unfinished_work() -> None:
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X:", 'NotImplementedError("later')
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("opsq", "benchmarks", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if any(word in line for word in words)
    ]
    assert not wrong, wrong


def test_tests_do_not_mock_or_sleep() -> None:
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path == ROOT / "tests/architecture/test_house_rules.py":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "unittest.mock" in line or "MagicMock" in line or "import mock" in line:
                wrong.append(f"{path.relative_to(ROOT)}:{number} mocks")
    assert not wrong, wrong
