"""The table itself: complete, consistent, cheap to import, and never showing a secret."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path

import pytest

import opsq
from opsq.masking import Secret
from opsq.settings import OPTIONS, Settings
from opsq.settings_values import coerce
from tests.architecture.modules import MODULES

PACKAGE = Path(opsq.__file__).parent
READ = re.compile(r"(?:[.\"'])([a-z]\w+)")
OWN = {"opsq.settings", "opsq.settings_options", "opsq.masking"}

DIFFER_FROM_CELERY = {
    "task_acks_late": (True, False),
    "task_reject_on_worker_lost": (True, None),
    "worker_send_task_events": (True, False),
    "task_send_sent_event": (True, False),
    "worker_hostname": ("opsq@%h", "celery@%h"),
    "worker_concurrency": (0, None),
    "worker_prefetch_multiplier": (None, 4),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_default_passes_its_own_rule(name: str) -> None:
    info = OPTIONS[name]
    assert coerce(info, info.default) == info.default


def test_a_setting_that_nothing_reads_says_so() -> None:
    """Otherwise somebody sets it, is told nothing, and goes on as if it worked."""
    sources = [path.read_text() for path in PACKAGE.rglob("*.py") if not path.name.startswith("settings")]
    read = {word for source in [*sources, *map(inspect.getsource, (Settings,))] for word in READ.findall(source)}
    of_processes = {f"{kind}_{what}" for kind in ("worker", "beat") for what in ("executable", "gid", "uid", "umask")}
    unread = OPTIONS.keys() - read - of_processes  # those are read by names put together in cli/detach.py
    assert sorted(name for name in unread if not OPTIONS[name].inert) == []


@pytest.mark.parametrize("name", OPTIONS)
def test_every_setting_is_documented_in_a_sentence(name: str) -> None:
    doc = OPTIONS[name].doc
    assert doc.endswith(".")
    assert doc[0].isupper() or doc[0] in "`2"


@pytest.mark.parametrize("name", DIFFER_FROM_CELERY)
def test_defaults_that_differ_from_celerys(name: str) -> None:
    ours, celerys = DIFFER_FROM_CELERY[name]
    info = OPTIONS[name]
    assert (info.default, info.celery_default) == (ours, celerys)
    assert info.differs


def test_settings_cannot_change_and_survive_pickling() -> None:
    settings = Settings(broker_url="redis://:pw@host/0", task_routes={"a": "b"})
    with pytest.raises(AttributeError):
        settings.web_port = 1  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert copy.copy(settings) == settings
    assert settings.replace(web_port=1) != settings


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(TypeError, match="Settings has no setting wrker_pool"):
        Settings(wrker_pool="solo")  # type: ignore[call-arg]


def test_tables_are_not_shared_between_two_settings() -> None:
    first, second = Settings(), Settings()
    first.broker_transport_options["x"] = 1
    assert second.broker_transport_options == {}


def test_repr_and_masked_show_no_secret() -> None:
    settings = Settings(
        broker_url="amqp://shop:hunter2@host//",
        redis_password=Secret("hunter2"),
        mongodb_backend_settings={"password": "hunter2", "x": "hunter2"},
        broker_transport_options={"sentinel_kwargs": {"password": "hunter2"}},
    )
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.masked())
    assert settings.masked()["broker_url"] == "amqp://shop:***@host//"


class TestEmbeddedDefaults:
    def test_no_url_at_all_means_sqlite_everywhere(self) -> None:
        settings = Settings(data_dir="/data")
        assert settings.embedded()
        assert settings.resolved_broker_url() == "sqlite:////data/broker.db"
        assert settings.resolved_result_backend() == "sqlite:////data/results.db"
        assert settings.resolved_store_url() == "sqlite:////data/history.db"

    def test_a_broker_without_a_result_store_disables_results(self) -> None:
        assert Settings(broker_url="redis://host").resolved_result_backend() is None

    @pytest.mark.parametrize("word", ["disabled", "disabled://"])
    def test_results_can_be_disabled_by_name(self, word: str) -> None:
        assert Settings(result_backend=word).resolved_result_backend() is None

    def test_sqlite_by_name_is_the_embedded_file(self) -> None:
        settings = Settings(data_dir="/d", broker_url="sqlite://", result_backend="sqlite://")
        assert settings.resolved_broker_url() == "sqlite:////d/broker.db"
        assert settings.resolved_result_backend() == "sqlite:////d/results.db"

    def test_read_and_write_urls_win_for_their_purpose(self) -> None:
        settings = Settings(broker_url="redis://a", broker_read_url="redis://r", broker_write_url="redis://w")
        assert settings.resolved_broker_url("read") == "redis://r"
        assert settings.resolved_broker_url("write") == "redis://w"
        assert settings.resolved_broker_url() == "redis://a"

    def test_the_parts_from_before_urls_make_one(self) -> None:
        settings = Settings(
            broker_host="h", broker_port=1, broker_user="u", broker_password=Secret("p"), broker_vhost="v"
        )
        assert settings.resolved_broker_url() == "amqp://u:p@h:1/v"
        assert not settings.embedded()

    def test_a_login_of_such_parts_may_hold_any_character(self) -> None:
        settings = Settings(broker_host="h", broker_user="me@shop", broker_password=Secret("a/b:c#"))
        assert settings.resolved_broker_url() == "amqp://me%40shop:a%2Fb%3Ac%23@h"


def test_the_table_itself_imports_only_what_reads_it() -> None:
    # `import opsq.settings` runs opsq/__init__ first, which needs the client; so look at what the two files import.
    imported = {found.target for module in MODULES if module.name in OWN for found in module.imports}
    assert {name for name in imported if name.startswith("opsq")} <= OWN
    assert not {"logging", "json", "tomllib", "pathlib", "importlib"} & imported
