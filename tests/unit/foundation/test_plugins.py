"""Importing by name, and what is said when that fails."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from opsq import plugins
from opsq.errors import ConfigError

APP = """
class App:
    pass
"""


class Place:
    """A folder of modules, on ``sys.path`` for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("opsqtest_kinds", APP)

    def write(self, name: str, text: str) -> None:
        path = self.folder.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))

    @property
    def kind(self) -> type:
        return plugins.resolve("opsqtest_kinds:App")  # type: ignore[return-value]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    before, modules = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(tmp_path))
    yield Place(tmp_path)
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.startswith("opsqtest"):
            del sys.modules[name]


def fault_of(call: object, *args: object, **kwargs: object) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args, **kwargs)  # type: ignore[operator]
    (fault,) = caught.value.faults
    return str(fault)


class TestResolve:
    def test_colon_dot_and_nested(self) -> None:
        assert plugins.resolve("os.path:join") is plugins.resolve("os.path.join")
        assert plugins.resolve("collections:OrderedDict.fromkeys")

    @pytest.mark.parametrize("path", ["", "x", ":x", "a:", "a-b:c", "a..b:c"])
    def test_a_malformed_path(self, path: str) -> None:
        assert fault_of(plugins.resolve, path, origin="env OPSQ_WORKER_POOL") == (
            f"expected a path like package.module:attribute, got {path!r} (from env OPSQ_WORKER_POOL)"
        )

    def test_a_missing_module(self) -> None:
        text = fault_of(plugins.resolve, "opsqtest_gone.sub:x", origin="-A")
        assert text.startswith("there is no module opsqtest_gone.sub (from -A); looked in ")

    def test_a_missing_attribute(self, place: Place) -> None:
        place.write("opsqtest_a", "celery = 1")
        assert fault_of(plugins.resolve, "opsqtest_a:celry", origin="-A") == (
            "opsqtest_a has no attribute 'celry', wanted by 'opsqtest_a:celry' (from -A); did you mean celery?"
        )

    def test_an_exception_while_importing_is_shown_with_its_place(self, place: Place) -> None:
        place.write("opsqtest_a", "\nx = 1 / 0\n")
        text = fault_of(plugins.resolve, "opsqtest_a:x", origin="-A")
        assert text == (
            "importing opsqtest_a failed with ZeroDivisionError: division by zero, "
            f"{place.folder}/opsqtest_a.py:2 (from -A)"
        )
        with pytest.raises(ConfigError) as caught:
            plugins.resolve("opsqtest_a:x")
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def test_a_syntax_error_names_file_and_line(self, place: Place) -> None:
        place.write("opsqtest_a", "def x(:\n")
        assert "(opsqtest_a.py, line 1)" in fault_of(plugins.resolve, "opsqtest_a:x")

    @pytest.mark.parametrize(
        ("needed", "cure"),
        [("redis", 'pip install "opsq[redis]"'), ("opsqtest_other", "pip install opsqtest_other")],
    )
    def test_a_missing_dependency_of_a_module(
        self, place: Place, needed: str, cure: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, needed, None)
        place.write("opsqtest_a", f"import {needed}")
        text = fault_of(plugins.resolve, "opsqtest_a:x")
        missing = needed.partition(".")[0]
        assert text == (f"opsqtest_a imports {missing}, which is not installed, {place.folder}/opsqtest_a.py:1; {cure}")

    def test_a_config_error_inside_the_module_passes_unchanged(self, place: Place) -> None:
        place.write("opsqtest_a", "from opsq.errors import ConfigError\nraise ConfigError('bad broker')")
        assert fault_of(plugins.resolve, "opsqtest_a:x") == "bad broker"


class TestImports:
    def test_all_failures_are_told(self, place: Place) -> None:
        place.write("opsqtest_a", "raise OSError")
        with pytest.raises(ConfigError) as caught:
            plugins.import_modules(["opsqtest_a", "opsqtest_kinds", "opsqtest_gone"])
        assert len(caught.value.faults) == 2
        assert caught.value.faults[0].problem.startswith("importing opsqtest_a failed with OSError, ")

    def test_if_present(self, place: Place) -> None:
        place.write("opsqtest_p.__init__", "")
        place.write("opsqtest_p.bad", "import opsqtest_gone")
        assert plugins.import_if_present("opsqtest_p.tasks") is None
        assert plugins.import_if_present("opsqtest_none.tasks") is None
        assert plugins.import_if_present("opsqtest_p") is not None
        assert "imports opsqtest_gone" in fault_of(plugins.import_if_present, "opsqtest_p.bad")

    def test_require_says_which_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "redis", None)
        assert plugins.require("json", "x") is sys.modules["json"]
        assert fault_of(plugins.require, "opsqtest_gone", "the Oracle broker") == (
            "the Oracle broker needs the package opsqtest_gone, which is not installed; pip install opsqtest_gone"
        )
        assert fault_of(plugins.require, "redis", "the Redis broker") == (
            'the Redis broker needs the package redis, which is not installed; pip install "opsq[redis]"'
        )

    def test_the_extras_are_those_of_the_project(self) -> None:
        project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
        assert set(plugins.EXTRAS.values()) == set(project["optional-dependencies"])


def distribution(folder: Path, name: str, entry_points: str) -> None:
    info = folder / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(entry_points)


class TestEntryPoints:
    def test_loads_by_name_sorted(self, place: Place) -> None:
        place.write("opsqtest_a", "x, y = 1, 2")
        distribution(place.folder, "opsqtest", "[opsq.pools]\nzoo = opsqtest_a:x\nant = opsqtest_a:y\n")
        assert plugins.load_group("opsq.pools") == {"ant": 2, "zoo": 1}
        assert plugins.choose("opsq.pools", "zoo", {}) == 1

    def test_broken_and_doubled_plugins_are_told_together(self, place: Place) -> None:
        place.write("opsqtest_a", "x = 1")
        distribution(place.folder, "opsqtest1", "[opsq.pools]\nant = opsqtest_a:x\nbad = opsqtest_gone:x\n")
        distribution(place.folder, "opsqtest2", "[opsq.pools]\nant = opsqtest_a:x\n")
        with pytest.raises(ConfigError) as caught:
            plugins.load_group("opsq.pools")
        assert [fault.problem for fault in caught.value.faults] == [
            "two plugins are called ant",
            "there is no module opsqtest_gone:x",
        ]

    def test_an_unknown_group_is_refused(self) -> None:
        assert "opsq.pool is not an entry-point group" in fault_of(plugins.load_group, "opsq.pool")

    def test_installed_version(self) -> None:
        assert plugins.installed_version("opsqtest-gone") is None
        assert plugins.installed_version("click")

    def test_choose(self) -> None:
        builtin = {"join": "os.path:join", "split": "os.path:split"}
        assert plugins.choose("opsq.pools", "join", builtin) is plugins.resolve("os.path:join")
        assert plugins.choose("opsq.pools", "os.path:split", builtin) is plugins.resolve("os.path:split")
        assert fault_of(plugins.choose, "opsq.pools", "joint", builtin, origin="worker_pool") == (
            "expected one of join, split, got 'joint' (from worker_pool); did you mean join?"
        )


class TestLoadApp:
    @pytest.mark.parametrize("attribute", ["app", "celery", "shop"])
    def test_finds_it_in_a_module(self, place: Place, attribute: str) -> None:
        place.write("opsqtest_a", f"from opsqtest_kinds import App\n{attribute} = App()\nother = 1")
        for spec in ("opsqtest_a", f"opsqtest_a:{attribute}", f"opsqtest_a.{attribute}"):
            assert isinstance(plugins.load_app(spec, place.kind), place.kind)

    @pytest.mark.parametrize("module", ["app", "celery"])
    def test_finds_it_in_a_package(self, place: Place, module: str) -> None:
        place.write("opsqtest_p.__init__", "")
        place.write(f"opsqtest_p.{module}", "from opsqtest_kinds import App\napp = App()")
        assert isinstance(plugins.load_app("opsqtest_p", place.kind), place.kind)
        assert isinstance(plugins.load_app(f"opsqtest_p.{module}", place.kind), place.kind)
        assert isinstance(plugins.load_app(f"opsqtest_p:{module}", place.kind), place.kind)

    def test_one_app_under_two_names_is_one_app(self, place: Place) -> None:
        place.write("opsqtest_a", "from opsqtest_kinds import App\na = b = App()")
        assert isinstance(plugins.load_app("opsqtest_a", place.kind), place.kind)

    def test_several_apps_are_a_question(self, place: Place) -> None:
        place.write("opsqtest_a", "from opsqtest_kinds import App\na, b = App(), App()")
        assert fault_of(plugins.load_app, "opsqtest_a", place.kind) == (
            "opsqtest_a holds several applications (from -A); choose one of opsqtest_a:a, opsqtest_a:b"
        )

    def test_no_app(self, place: Place) -> None:
        place.write("opsqtest_a", "app = 1")
        assert fault_of(plugins.load_app, "opsqtest_a", place.kind) == (
            "found no App application in opsqtest_a (from -A); name it, as in opsqtest_a:my_app"
        )
        assert fault_of(plugins.load_app, "opsqtest_a:app", place.kind) == (
            "expected opsqtest_a:app to be an App application, got int (from -A)"
        )

    def test_no_module(self, place: Place) -> None:
        for spec in ("opsqtest_gone", "opsqtest_gone.app"):
            assert fault_of(plugins.load_app, spec, place.kind, cwd="/somewhere") == (
                f"there is no module {spec} (from -A); looked in /somewhere and on sys.path"
            )

    def test_the_folder_is_put_on_the_path(self, place: Place, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "opsqtest_b.py").write_text("from opsqtest_kinds import App\napp = App()")
        assert isinstance(plugins.load_app("opsqtest_b", place.kind, cwd=str(tmp_path / "sub")), place.kind)
