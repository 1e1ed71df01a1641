from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.errors import ConfigError, UsageError


def test_writable_until_the_first_use_then_fixed(app: Opsq) -> None:
    app.conf.task_acks_late = False
    app.conf["task_default_queue"] = "mine"
    app.conf.update(worker_concurrency=3)
    assert (app.conf.task_acks_late, app.conf.get("task_default_queue"), app.conf.worker_concurrency) == (
        False,
        "mine",
        3,
    )
    assert not app.is_finalized
    assert app.settings.task_default_queue == "mine"
    with pytest.raises(UsageError, match=r"task_acks_late cannot change: app 'shop' is in use.*before the first call"):
        app.conf.task_acks_late = True
    with pytest.raises(UsageError, match="config_from_object cannot change"):
        app.config_from_object({})
    with pytest.raises(UsageError, match="worker_concurrency cannot change"):
        app.apply_cli({"worker_concurrency": 1})
    assert app.conf.task_acks_late is False


def test_near_misses_are_errors_and_foreign_keys_are_kept(app: Opsq) -> None:
    with pytest.raises(UsageError, match=r"there is no setting 'task_ack_late'; did you mean 'task_acks_late'\?"):
        app.conf.task_ack_late = True
    with pytest.raises(AttributeError, match="did you mean 'task_acks_late'"):
        _ = app.conf.task_ack_late
    app.conf["ZEBRA"] = 1
    assert app.conf["ZEBRA"] == 1
    assert "ZEBRA" in app.conf


def test_constructor_keywords() -> None:
    made = Opsq("x", broker="memory://", backend="memory://", task_serializer="yaml", set_as_current=False)
    assert (made.conf.task_serializer, made.conf.broker_url, made.conf.result_backend) == (
        "yaml",
        "memory://",
        "memory://",
    )
    with pytest.raises(
        UsageError, match=r"Opsq\(\) has no keyword 'task_serialiser'.*did you mean 'task_serializer'\?"
    ):
        Opsq(task_serialiser="json")
    with pytest.raises(UsageError, match="takes no loader=: settings come from"):
        Opsq(loader="app")
    assert Opsq(changes={"task_acks_late": False}, set_as_current=False).conf.task_acks_late is False


def test_every_fault_at_once(app: Opsq) -> None:
    app.conf.update(worker_concurrency="many", task_default_priority=999)
    with pytest.raises(ConfigError) as caught:
        app.finalize()
    assert len(caught.value.faults) == 2
    assert not app.is_finalized


def test_tables_may_be_changed_in_place(app: Opsq) -> None:
    app.conf.beat_schedule["nightly"] = {"task": "x"}
    app.conf.task_publish_retry_policy["max_retries"] = 9
    assert app.settings.beat_schedule == {"nightly": {"task": "x"}}
    assert app.settings.task_publish_retry_policy["max_retries"] == 9
    assert Opsq(set_as_current=False).conf.beat_schedule == {}


def test_config_from_objects(app: Opsq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_settings.py").write_text(
        "import os\nSHOP_TASK_DEFAULT_QUEUE = 'django'\nSHOP_BROKER_URL = 'redis://other'\nDEBUG = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    app.config_from_object("shop_settings", namespace="SHOP")

    class Own:
        worker_concurrency = 4

    app.config_from_object(Own)
    module = types.ModuleType("m")
    module.CELERY_TASK_SERIALIZER = "yaml"  # type: ignore[attr-defined]  # an old name
    app.config_from_object(module)
    assert app.conf.worker_concurrency == 4
    assert app.conf.task_serializer == "yaml"
    assert app.conf.task_default_queue == "django"
    assert app.conf.broker_url == "memory://", "what was set by name wins"


def test_an_object_that_cannot_be_imported() -> None:
    made = Opsq(set_as_current=False)
    made.config_from_object("no_such_settings", silent=True)
    assert made.conf.task_acks_late is True
    loud = Opsq(set_as_current=False)
    loud.config_from_object("no_such_settings")
    with pytest.raises(ConfigError, match="no_such_settings"):
        loud.conf.load()


def test_config_source_and_cli_on_top() -> None:
    made = Opsq(config_source={"task_default_queue": "a", "worker_concurrency": 1}, set_as_current=False)
    made.apply_cli({"worker_concurrency": "5"})
    assert (made.settings.task_default_queue, made.settings.worker_concurrency) == ("a", 5)
    assert made.cli_values() == {"worker_concurrency": "5"}


def test_secrets_are_starred(app: Opsq) -> None:
    app.conf.broker_url = "redis://:hunter2@host"
    shown = f"{app.conf!r} {app.conf.humanize()} {app!r}"
    assert "hunter2" not in shown
    assert "***" in shown


def test_hooks_around_finalising(app: Opsq) -> None:
    order: list[str] = []

    def note(name: str) -> Any:
        return lambda sender=None, **_: order.append(name)

    for name in ("on_configure", "on_after_configure", "on_after_finalize"):
        getattr(app, name).connect(note(name), weak=False)
    app.finalize()
    app.finalize()
    assert order == ["on_configure", "on_after_configure", "on_after_finalize"]


def test_protocol_1_is_not_published(app: Opsq) -> None:
    app.conf.task_protocol = 1
    with pytest.raises(ConfigError, match="publishes task protocol 2 only"):
        app.finalize()


def test_an_app_is_a_context_manager_and_closes_twice() -> None:
    with Opsq(broker="memory://", backend="memory://") as made:
        made.finalize()
    made.close()


def test_importing_opsq_opens_and_loads_little(tmp_path: Path) -> None:
    program = (
        "import sys; from opsq import Opsq; app = Opsq('x', broker='redis://nowhere', backend='redis://nowhere')\n"
        "@app.task\ndef f(): ...\n"
        "print(sorted({'kombu', 'redis', 'sqlite3', 'starlette', 'click', 'asyncio', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("reddis://x", r"unknown result store 'reddis'; did you mean 'redis'\?"),
        ("couchdb://x", "unknown result store 'couchdb'; known are"),
        ("sqlite:///", "names no file; write sqlite:////absolute/path/results.db"),
    ],
)
def test_result_stores_by_url(url: str, says: str) -> None:
    made = Opsq(broker="memory://", backend=url, set_as_current=False)
    with pytest.raises(ConfigError, match=says):
        _ = made.backend


def test_a_missing_library_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from opsq import Opsq\n"
        "Opsq(broker='memory://', backend='redis://x').backend"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert "ConfigError" in last
    assert 'pip install "opsq[redis]"' in last, last


def test_a_result_store_of_ones_own() -> None:
    from opsq.core.backends.memory import MemoryBackend

    own = MemoryBackend()
    made = Opsq(
        broker="memory://",
        backend="mine://",
        override_backends={"mine": lambda url, settings: own},
        set_as_current=False,
    )
    assert made.backend.backend is own


def test_config_from_an_environment_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "env_settings.py").write_text("task_default_queue = 'from-env'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SHOP_CONFIG_MODULE", "env_settings")
    made = Opsq(set_as_current=False)
    made.config_from_envvar("SHOP_CONFIG_MODULE")
    assert made.conf.task_default_queue == "from-env"
    with pytest.raises(ConfigError, match="environment variable NOT_SET is not set"):
        made.config_from_envvar("NOT_SET")
    made.config_from_envvar("NOT_SET", silent=True)
