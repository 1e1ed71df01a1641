from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opsq import Celery, Opsq, Task, shared_task
from opsq.core.registry import PROCESS, DuplicateTaskNameWarning
from opsq.errors import ConfigError, NotRegistered, UsageError
from tests.unit.core.conftest import KeptMessages


def plain(x: int, y: int = 1) -> int:
    """Add."""
    return x + y


def test_the_decorator_returns_the_task_itself(app: Opsq) -> None:
    task = app.task(plain)
    assert isinstance(task, Task)
    assert app.tasks[f"{__name__}.plain"] is task
    assert task(2, y=3) == 5
    assert (task.__doc__, task.app, Celery) == ("Add.", app, Opsq)
    assert repr(task) == f"<Task: {__name__}.plain of shop>"


def test_names(app: Opsq) -> None:
    def fake() -> None: ...

    fake.__module__ = "__main__"
    assert app.task(fake).name == "shop.fake"
    assert app.task(plain, name="mine").name == "mine"
    assert app.gen_task_name("f", "a.b") == "a.b.f"
    assert app.gen_task_name("f", "__main__") == "shop.f"


def test_bind_gives_the_task_as_first_argument(app: Opsq) -> None:
    @app.task(bind=True)
    def me(self: Task[..., Any], x: int) -> tuple[Any, int]:
        return self, x

    assert me(3) == (me, 3)
    assert me.apply((4,)).get() == (me, 4)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_retrys": 3}, r"has no option 'max_retrys'; did you mean 'max_retries'\?"),
        ({"my_own": 3}, "has no option 'my_own'; to keep a value of your own, declare it on a base= class"),
        ({"base": int}, "base= is a subclass of opsq.Task, got <class 'int'>"),
        ({"name": 3}, "name= is text, got 3"),
        ({"retry_backoff": "yes"}, "retry_backoff is true, false or seconds"),
        ({"priority": "high"}, "priority is a whole number"),
    ],
)
def test_bad_options_are_refused_at_the_declaration(app: Opsq, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        app.task(**options)(plain)


def test_a_base_class_may_have_attributes_of_its_own(app: Opsq) -> None:
    class Base(Task[..., Any]):
        database = "default"

        def on_bound(self, app: Opsq) -> None:
            self.bound_to = app

    task = app.task(base=Base, database="reports")(plain)
    assert (task.database, task.bound_to) == ("reports", app)  # type: ignore[attr-defined]  # of the base


def test_class_based_tasks(app: Opsq, kept: KeptMessages) -> None:
    class Add(app.Task):  # type: ignore[name-defined, misc]  # a class made at run time, as in Celery
        name = "sums.add"

        def run(self, x: int, y: int) -> int:
            return x + y

    add = app.register_task(Add())
    assert app.register_task(add) is add
    assert add(1, 2) == 3
    assert add.delay(1, 2).id == kept.tasks[0].headers["id"]
    with pytest.raises(UsageError, match="register_task takes a Task"):
        app.register_task(3)


def test_attributes_come_from_the_settings_when_the_app_is_used(app: Opsq) -> None:
    app.conf.task_acks_late = False
    task = app.task(rate_limit="3/s")(plain)
    assert task.acks_late is None
    app.conf.update(task_ignore_result=True, task_annotations={"*": {"rate_limit": "1/h"}, "late": {"max_retries": 9}})
    app.finalize()
    assert (task.acks_late, task.ignore_result, task.rate_limit) == (False, True, "1/h")
    assert app.task(plain, name="late").max_retries == 9, "declared after the app was finalised"


def test_annotations_by_object(app: Opsq) -> None:
    class Annotate:
        def annotate(self, task: Any) -> dict[str, Any] | None:
            return {"rate_limit": "7/s"} if task.name.endswith("plain") else None

    app.conf.task_annotations = [Annotate()]
    task = app.task(plain)
    app.finalize()
    assert task.rate_limit == "7/s"


def test_two_functions_of_one_name_are_warned_about(app: Opsq) -> None:
    def other() -> None: ...

    app.task(plain, name="same")
    with pytest.warns(DuplicateTaskNameWarning, match=r"'same' was declared by .*plain and again by .*other"):
        app.task(other, name="same")


def test_an_unknown_name_says_which_is_near(app: Opsq) -> None:
    app.task(plain, name="shop.add")
    with pytest.raises(NotRegistered, match=r"no task named 'shop.ad' is registered; did you mean 'shop.add'\?"):
        app.tasks["shop.ad"]
    app.tasks.unregister("shop.add")
    assert "shop.add" not in app.tasks


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 1})],
)
def test_arguments_are_checked_before_publishing(
    app: Opsq, kept: KeptMessages, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    task = app.task(plain)
    with pytest.raises(TypeError, match=r"task '.*plain' was called with the wrong arguments: "):
        task.delay(*args, **kwargs)
    assert kept.messages == []
    loose = app.task(plain, name="loose", typing=False)
    assert loose.delay(*args, **kwargs).id


def test_args_must_be_a_list(app: Opsq) -> None:
    task = app.task(plain)
    with pytest.raises(TypeError, match=r"args of a call of .* is a list or tuple, got 'x'"):
        task.apply_async("x")
    with pytest.raises(TypeError, match=r"kwargs of a call of .* is a dict"):
        task.apply_async((), [1])  # type: ignore[arg-type]  # the case itself


def test_keyword_only_and_variable_arguments(app: Opsq, kept: KeptMessages) -> None:
    @app.task
    def strict(*, key: int) -> None: ...

    @app.task
    def loose(*args: int, **kwargs: int) -> None: ...

    with pytest.raises(TypeError, match="key"):
        strict.delay()  # type: ignore[call-arg]  # the case itself
    strict.delay(key=1)
    loose.delay(1, 2, 3, a=4)
    assert len(kept.tasks) == 2


def test_pydantic_models_in_and_out(app: Opsq) -> None:
    pydantic = pytest.importorskip("pydantic")
    order = pydantic.create_model("Order", id=(int, ...))

    def ship(order: Any, note: str = "") -> Any:
        return order

    ship.__annotations__ = {"order": order, "note": str, "return": order}
    task = app.task(pydantic=True)(ship)
    assert task({"id": "7"}) == {"id": 7}
    with pytest.raises(pydantic.ValidationError):
        task({"id": "seven"})


def test_tasks_are_pickled_by_name(app: Opsq) -> None:
    task = app.task(plain)
    assert pickle.loads(pickle.dumps(task)) is task


def test_shared_tasks_are_taken_by_every_finalised_app() -> None:
    @shared_task(name="lib.shared", rate_limit="5/m")
    def shared(x: int) -> int:
        return x

    one, two = (Opsq(name, broker="memory://", backend="memory://") for name in ("one", "two"))
    one.finalize()
    assert one.tasks["lib.shared"].app is one
    assert one.tasks["lib.shared"] is not shared
    assert "lib.shared" not in two.tasks
    assert shared.app is one, "the only finalised app"
    two.finalize()
    with pytest.raises(UsageError, match=r"'?lib.shared'? is a shared task and could mean <Opsq one .*> and <Opsq two"):
        shared.delay(1)
    two.set_default()
    assert shared.app is two
    PROCESS.set_default(None)
    one.close()
    assert shared.app is two
    two.close()


def test_a_shared_task_inside_a_running_task_means_its_app() -> None:
    @shared_task(name="lib.inner")
    def inner() -> str:
        return str(inner.app.main)

    one, two = (Opsq(name, broker="memory://", backend="memory://") for name in ("one", "two"))
    one.finalize()
    two.finalize()

    @two.task(name="outer")
    def outer() -> str:
        return inner.delay.__self__.app.main  # type: ignore[no-any-return, attr-defined]  # the bound method's task

    assert outer.apply().get() == "two"
    one.close()
    two.close()


def test_shared_tasks_declared_later_join_finalised_apps(app: Opsq) -> None:
    app.finalize()

    @shared_task(name="lib.later")
    def later() -> None: ...

    assert app.tasks["lib.later"].app is app


def test_without_an_app_a_shared_task_says_so(tmp_path: Path) -> None:
    program = "from opsq import shared_task\n@shared_task(name='x')\ndef f(): ...\nf.delay()"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert "UsageError: x is a shared task and no app exists yet; create one: app = Opsq('name')" in done.stderr


def test_autodiscovery(app: Opsq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("disco_one", "disco_two", "disco_bad"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "disco_one" / "tasks.py").write_text("from opsq import shared_task\n@shared_task\ndef found(): ...\n")
    (tmp_path / "disco_bad" / "tasks.py").write_text("import nothing_like_this\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    app.autodiscover_tasks(lambda: ["disco_one", "disco_two"])
    app.import_task_modules()
    app.finalize()
    assert "disco_one.tasks.found" in app.tasks
    with pytest.raises(ConfigError, match="nothing_like_this"):
        app.autodiscover_tasks(["disco_bad"], force=True)
    with pytest.raises(UsageError, match="takes a list of packages, got the text 'x'"):
        app.autodiscover_tasks("x")
