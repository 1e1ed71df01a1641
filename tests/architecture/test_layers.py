"""Who may import whom: the picture of design.md section 2, kept by a machine."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.architecture.modules import MODULES, Import, Module

FOUNDATION = ("errors", "chore", "clock", "garbage", "masking", "logs", "plugins", "bootsteps", "words")
WORKER_SIDE = ("core.worker", "core.pools", "core.beat")
POLICY = ("policy", "observation", "decision", "presets", "guards", "staffing", "record", "arrivals")
MIRROR = ("exceptions", "states", "result", "canvas", "utils", "app", "task", "schedules", "worker", "contrib")

# Layer of a module: the longest prefix here wins. Each layer may import itself and what it lists.
LAYERS: dict[str, tuple[str, ...]] = {
    "foundation": (),
    "wire": ("foundation",),
    "broker": ("foundation", "wire"),
    "control": ("foundation", "wire", "broker"),
    "client": ("foundation", "wire", "broker", "control"),
    "pools": ("foundation", "wire"),
    "worker": ("foundation", "wire", "broker", "control", "client", "pools", "policy"),
    "events": ("foundation", "wire", "broker", "control"),
    "policy": ("foundation",),
    "autoscale": ("foundation", "wire", "broker", "control", "events", "policy"),
    "web": ("foundation", "wire", "control", "events", "autoscale", "policy", "client"),
    "roots": (
        "foundation",
        "wire",
        "broker",
        "control",
        "client",
        "pools",
        "worker",
        "events",
        "autoscale",
        "policy",
        "web",
    ),
    "testing": (
        "foundation",
        "wire",
        "broker",
        "control",
        "client",
        "pools",
        "worker",
        "events",
        "autoscale",
        "policy",
        "web",
        "roots",
    ),
}

# Third parties and the only layers that may touch them (design.md decision 13).
DOORS: dict[str, tuple[str, ...]] = {
    "kombu": ("broker",),
    "amqp": ("broker",),
    "redis": ("broker", "client"),
    "sqlite3": ("broker", "client", "events"),
    "psycopg": ("client", "events"),
    "sqlalchemy": ("broker", "client", "events"),
    "boto3": ("broker", "client"),
    "botocore": ("broker", "client"),
    "pymongo": ("broker", "client"),
    "pymemcache": ("client",),
    "cassandra": ("client",),
    "starlette": ("web",),
    "jinja2": ("web",),
    "prometheus_client": ("web",),
    "uvicorn": ("web", "roots"),
    "click": ("roots",),
    "gevent": ("pools", "roots"),
    "eventlet": ("pools", "roots"),
    "cryptography": ("client",),
    "django": ("client",),
    "django_tasks": ("client",),
    "asgiref": ("client",),
    "rich": ("roots",),
}

# Function-level imports that may stay, each with its reason.
LATE_IMPORTS: dict[tuple[str, str], str] = {
    ("opsq.cli.early_patch", "gevent"): "one of two, before anything else",
    ("opsq.cli.early_patch", "eventlet"): "one of two, before anything else",
    ("opsq.cli.early_patch", "opsq.cli.main"): "imports sockets, which must be patched first",
}

ASYNC_ALLOWED = (
    "opsq.web",
    "opsq.monitor",
    "opsq.autoscale",
    "opsq.testing",
    "opsq.events.feed",
    "opsq.contrib.django",
    "opsq.core.pools.base",
    "opsq.core.pools.aio",
    "opsq.core.pools.limits",
    "opsq.core.worker.execute",
    "opsq.core.worker.prepared",
)


def layer_of(name: str) -> str:
    """Name the layer that a module belongs to."""
    inner = name.removeprefix("opsq").lstrip(".")
    top = inner.partition(".")[0]
    if inner.startswith("core.pools"):
        return "pools"
    if any(inner == side or inner.startswith(f"{side}.") for side in WORKER_SIDE):
        return "worker"
    if inner.startswith("autoscale.") and inner.removeprefix("autoscale.") in POLICY:
        return "policy"
    if top in FOUNDATION or top.startswith(("settings", "log")):
        return "foundation"
    if top in ("wire", "broker", "control", "events", "autoscale", "web", "testing"):
        return top
    if top in ("cli", "monitor", "__main__"):
        return "roots"
    if top in ("", "core", "signals", *MIRROR):
        return "client"
    raise AssertionError(f"{name} belongs to no layer; place it in tests/architecture/test_layers.py")


def edges(module: Module) -> list[Import]:
    return [found for found in module.imports if not found.type_only]


@pytest.fixture(scope="module", autouse=True)
def trees() -> Iterator[None]:
    """Let go of what was parsed, once the last rules have been looked at: it is 150 MB."""
    yield
    for module in MODULES:
        vars(module).pop("tree", None)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_imports_point_down_the_layers(module: Module) -> None:
    layer = layer_of(module.name)
    wrong = []
    for found in edges(module):
        if found.target != "opsq" and not found.target.startswith("opsq."):
            continue
        target = layer_of(found.target)
        if target != layer and target not in LAYERS[layer]:
            wrong.append(f"line {found.line}: {layer} may not import {found.target} ({target})")
    assert not wrong, f"{module.name}: " + "; ".join(wrong)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_third_parties_have_one_door(module: Module) -> None:
    layer = layer_of(module.name)
    if layer == "testing":
        return
    wrong = [
        f"line {found.line}: {found.target}"
        for found in module.imports
        if (door := DOORS.get(found.target.partition(".")[0])) and layer not in door
    ]
    assert not wrong, f"{module.name} reaches past a door: " + "; ".join(wrong)


def test_foundation_needs_no_third_party() -> None:
    allowed = sys.stdlib_module_names
    wrong = [
        f"{module.name}:{found.line} {found.target}"
        for module in MODULES
        if layer_of(module.name) == "foundation"
        for found in edges(module)
        if found.target.partition(".")[0] not in allowed and not found.target.startswith("opsq")
    ]
    assert not wrong, wrong


def test_no_import_cycle() -> None:
    graph = {
        module.name: {found.target for found in edges(module) if found.target.startswith("opsq.")} - {module.name}
        for module in MODULES
    }
    seen: dict[str, int] = {}
    trail: list[str] = []

    def visit(name: str) -> None:
        seen[name] = 1
        trail.append(name)
        for target in sorted(graph.get(name, ())):
            state = seen.get(target, 0)
            assert state != 1, "import cycle: " + " → ".join([*trail[trail.index(target) :], target])
            if state == 0:
                visit(target)
        trail.pop()
        seen[name] = 2

    for name in sorted(graph):
        if name not in seen:
            visit(name)


def test_function_level_imports_are_listed_with_reasons() -> None:
    found = {
        (module.name, item.target)
        for module in MODULES
        for item in module.imports
        if item.in_function and layer_of(module.name) != "testing"
    }
    unlisted = sorted(found - LATE_IMPORTS.keys())
    stale = sorted(LATE_IMPORTS.keys() - found)
    assert not unlisted, f"import these at the top, or list them with a reason: {unlisted}"
    assert not stale, f"these no longer exist, drop them from LATE_IMPORTS: {stale}"
    assert all(reason for reason in LATE_IMPORTS.values())


def test_nothing_imports_testing() -> None:
    wrong = [
        f"{module.name}:{found.line}"
        for module in MODULES
        if layer_of(module.name) != "testing"
        for found in module.imports
        if found.target.startswith("opsq.testing")
    ]
    assert not wrong, wrong


def _attribute_uses(module: Module, owner: str, attributes: tuple[str, ...]) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in attributes
        and isinstance(node.value, ast.Name)
        and node.value.id == owner
    ]


def test_environment_is_read_in_one_place() -> None:
    wrong = {
        module.name: lines
        for module in MODULES
        if module.name != "opsq.settings_load"
        if (lines := _attribute_uses(module, "os", ("environ", "getenv", "putenv")))
    }
    assert not wrong, f"only settings_load reads the environment: {wrong}"


def test_importlib_is_used_in_one_place() -> None:
    wrong = [
        f"{module.name}:{found.line}"
        for module in MODULES
        if module.name not in ("opsq.plugins",)
        for found in module.imports
        if found.target.partition(".")[0] == "importlib" and not found.target.startswith("importlib.resources")
    ]
    assert not wrong, wrong


def test_async_functions_live_in_the_asyncio_world() -> None:
    wrong = {
        module.name: [node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.AsyncFunctionDef)]
        for module in MODULES
        if not module.name.startswith(ASYNC_ALLOWED)
    }
    assert not {name: lines for name, lines in wrong.items() if lines}


def test_importing_opsq_stays_light() -> None:
    program = (
        "import sys, opsq; from opsq import Opsq, Celery; heavy = {'starlette', 'uvicorn', 'jinja2', "
        "'prometheus_client', 'redis', 'click', 'rich', 'asyncio', 'sqlalchemy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
