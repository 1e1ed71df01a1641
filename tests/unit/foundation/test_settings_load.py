"""Layers, origins, and every fault told at once."""

from __future__ import annotations

import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from opsq.errors import ConfigError
from opsq.settings import OPTIONS
from opsq.settings_load import DEFAULT, Loaded, load
from opsq.settings_sources import from_object


def faults_of(**layers: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(**{"environ": {}, **layers})  # type: ignore[arg-type]
    return [str(fault) for fault in caught.value.faults]


def quiet(tmp_path: Path, **layers: object) -> Loaded:
    return load(**{"environ": {}, "cwd": tmp_path, **layers})  # type: ignore[arg-type]


class TestLayers:
    def test_each_layer_wins_over_the_one_below(self, tmp_path: Path) -> None:
        (tmp_path / "opsq.toml").write_text(
            "web_port = 1\nlog_level = 'ERROR'\nworker_concurrency = 1\nlease_seconds = 9"
        )
        loaded = quiet(
            tmp_path,
            environ={"OPSQ_WEB_PORT": "2", "OPSQ_LOG_LEVEL": "INFO", "OPSQ_WORKER_CONCURRENCY": "2"},
            code={"web_port": 3, "log_level": "DEBUG"},
            cli={"web_port": 4, "worker_pool": None},
        )
        settings, origins = loaded.settings, loaded.origins
        assert (settings.web_port, str(origins["web_port"])) == (4, "command line web_port")
        assert (settings.log_level, str(origins["log_level"])) == ("DEBUG", "code log_level")
        assert (settings.worker_concurrency, str(origins["worker_concurrency"])) == (2, "env OPSQ_WORKER_CONCURRENCY")
        assert (settings.lease_seconds, str(origins["lease_seconds"])) == (
            9.0,
            f"file {tmp_path / 'opsq.toml'}: lease_seconds",
        )
        assert origins["worker_pool"] is DEFAULT
        assert set(loaded.given()) == {"web_port", "log_level", "worker_concurrency", "lease_seconds"}
        assert set(origins) == set(OPTIONS)

    def test_the_nearest_file_upwards_counts(self, tmp_path: Path) -> None:
        (tmp_path / "opsq.toml").write_text("web_port = 1")
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "pyproject.toml").write_text("[tool.opsq]\nweb_port = 2\n[tool.other]\nx = 1")
        (tmp_path / "a" / "b").mkdir()
        assert quiet(tmp_path / "a" / "b").settings.web_port == 2
        assert quiet(tmp_path).settings.web_port == 1

    def test_a_pyproject_that_is_not_about_us_is_passed_by(self, tmp_path: Path) -> None:
        (tmp_path / "opsq.toml").write_text("web_port = 1")
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'x'")
        (tmp_path / "a" / "b").mkdir()
        (tmp_path / "a" / "b" / "pyproject.toml").write_text("broken {")
        assert quiet(tmp_path / "a" / "b").settings.web_port == 1

    def test_opsq_config_names_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "prod.toml").write_text("web_port = 7")
        assert quiet(tmp_path, environ={"OPSQ_CONFIG": "prod.toml"}).settings.web_port == 7
        assert faults_of(cwd=tmp_path, environ={"OPSQ_CONFIG": "gone.toml"}) == [
            "no configuration file gone.toml (from env OPSQ_CONFIG)"
        ]

    def test_the_data_folder_is_absolute_and_belongs_to_the_project(self, tmp_path: Path) -> None:
        assert quiet(tmp_path).settings.data_dir == str(tmp_path / ".opsq")
        (tmp_path / "opsq.toml").write_text("data_dir = 'data'")
        (tmp_path / "sub").mkdir()
        assert quiet(tmp_path / "sub").settings.data_dir == str(tmp_path / "data")
        assert quiet(tmp_path / "sub", cli={"data_dir": "x"}).settings.data_dir == str(tmp_path / "sub" / "x")


class TestEnvironment:
    @pytest.mark.parametrize(
        ("variable", "name"),
        [
            ("CELERY_BROKER_URL", "broker_url"),
            ("CELERY_BROKER_READ_URL", "broker_read_url"),
            ("CELERY_BROKER_WRITE_URL", "broker_write_url"),
            ("CELERY_RESULT_BACKEND", "result_backend"),
        ],
    )
    def test_celerys_urls_are_read(self, tmp_path: Path, variable: str, name: str) -> None:
        loaded = quiet(tmp_path, environ={variable: "redis://h"})
        assert getattr(loaded.settings, name) == "redis://h"
        assert str(loaded.origins[name]) == f"env {variable}"

    def test_our_name_wins_with_a_notice(self, tmp_path: Path) -> None:
        loaded = quiet(tmp_path, environ={"CELERY_BROKER_URL": "redis://c", "OPSQ_BROKER_URL": "redis://o"})
        assert loaded.settings.broker_url == "redis://o"
        assert loaded.notices == ["CELERY_BROKER_URL is ignored because OPSQ_BROKER_URL is set"]

    def test_an_empty_variable_gives_nothing(self, tmp_path: Path) -> None:
        empty = {"OPSQ_WEB_PORT": "", "CELERY_BROKER_URL": "", "OPSQ_BROKER_URL": ""}
        assert quiet(tmp_path, environ=empty).given() == {}
        assert "unknown setting web_prot" in faults_of(cwd=tmp_path, environ={"OPSQ_WEB_PROT": ""})[0]

    def test_kubernetes_service_variables_are_not_settings(self, tmp_path: Path) -> None:
        """A Service named opsq-web must not stop every pod in its namespace."""
        links = {
            "OPSQ_SERVICE_HOST": "10.0.0.1",
            "OPSQ_SERVICE_PORT": "80",
            "OPSQ_PORT": "tcp://10.0.0.1:80",
            "OPSQ_PORT_80_TCP_ADDR": "10.0.0.1",
            "OPSQ_WEB_SERVICE_HOST": "10.0.0.2",
            "OPSQ_WEB_SERVICE_PORT_HTTP": "5555",
            "OPSQ_WEB_PORT": "tcp://10.0.0.2:5555",
            "OPSQ_WEB_PORT_5555_TCP_PROTO": "tcp",
        }
        assert quiet(tmp_path, environ=links).given() == {}
        mine = quiet(tmp_path, environ={**links, "OPSQ_WEB_PORT": "8080"})
        assert mine.settings.web_port == 8080

    def test_every_setting_can_be_given_in_the_environment(self, tmp_path: Path) -> None:
        texts = {
            "bool": "true",
            "int": "2",
            "float": "2",
            "str": "x",
            "tuple[str, ...]": "x",
            "dict[str, object]": "{}",
            "Secret": "x",
            "object": "x",
        }
        cross_checked = {
            "timezone",
            "web_url_prefix",
            "task_default_rate_limit",
            "control_queue_durable",
            "event_queue_durable",
        }
        for name, info in OPTIONS.items():
            text = info.choices[0] if info.choices else texts[info.kinds[0]]
            if info.min is not None:
                text = str(int(max(info.min, 1)))
            if name in cross_checked:
                continue
            loaded = quiet(tmp_path, environ={"OPSQ_" + name.upper(): text})
            assert loaded.origins[name].layer == "env"


class TestFaults:
    def test_all_are_told_together_each_with_origin_and_remedy(self, tmp_path: Path) -> None:
        (tmp_path / "opsq.toml").write_text("web_prot = 1\n[worker]\nconcurrency = 3")
        assert faults_of(
            cwd=tmp_path,
            environ={"OPSQ_WORKER_CONCURENCY": "3", "OPSQ_WEB_PORT": "99999", "OPSQ_TASK_TIME_LIMIT": "5m"},
            code={"task_soft_time_limit": 400, "worker_lost_wayt": 3, "my_own_key": object()},
            cli={"log_level": "loud", "nonsense": 1},
        ) == [
            f"unknown setting web_prot (from file {tmp_path}/opsq.toml: web_prot); did you mean web_port?",
            f"unknown setting worker (from file {tmp_path}/opsq.toml: worker); did you mean worker_uid?",
            "expected web_port between 0 and 65535, got 99999 (from env OPSQ_WEB_PORT)",
            "unknown setting worker_concurency (from env OPSQ_WORKER_CONCURENCY); "
            "did you mean OPSQ_WORKER_CONCURRENCY?",
            "unknown setting worker_lost_wayt (from code worker_lost_wayt); did you mean worker_lost_wait?",
            "expected log_level to be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, got 'loud' "
            "(from command line log_level)",
            "unknown setting nonsense (from command line nonsense); `opsq config show` lists them all",
            "expected task_soft_time_limit (400) not above task_time_limit (300) "
            "(from code task_soft_time_limit; env OPSQ_TASK_TIME_LIMIT); "
            "a soft limit is the earlier warning; lower it or raise the other",
        ]

    def test_a_broken_file_is_a_fault_with_its_line(self, tmp_path: Path) -> None:
        (tmp_path / "opsq.toml").write_text("a = 1\nb = = 2\n")
        (fault,) = faults_of(cwd=tmp_path)
        assert fault == f"not valid TOML: Invalid value (at line 2, column 5) (from file {tmp_path}/opsq.toml)"

    def test_a_broken_pyproject_about_us_is_a_fault(self, tmp_path: Path) -> None:
        (tmp_path / "pyproject.toml").write_text("[tool.opsq]\nx = = 1")
        assert "not valid TOML" in faults_of(cwd=tmp_path)[0]

    @pytest.mark.parametrize(
        ("code", "fault"),
        [
            ({"broker_url": "localhost:6379"}, "expected broker_url like redis://host:6379/0, got 'localhost:6379'"),
            ({"timezone": "Mars/Olympus"}, "no time zone is called 'Mars/Olympus'"),
            ({"timezone": 5}, "expected timezone to be a zone name or a tzinfo, got int"),
            ({"task_default_rate_limit": "10/d"}, "expected task_default_rate_limit like 10/s, 100/m or 1000/h"),
            ({"web_url_prefix": "opsq/"}, "use '/opsq'"),
            ({"worker_queues": ["a"], "worker_exclude_queues": ["a"]}, "queue a is both consumed and excluded"),
            ({"control_queue_durable": True}, "control_queue_durable and control_queue_exclusive cannot both be on"),
            (
                {"task_default_priority": 9, "task_queue_max_priority": 5},
                "expected task_default_priority (9) not above",
            ),
            ({"autoscale_min_slots": 9, "autoscale_max_slots": 5}, "swap them"),
        ],
    )
    def test_contradictions(self, tmp_path: Path, code: dict[str, object], fault: str) -> None:
        (found,) = faults_of(cwd=tmp_path, code=code)
        assert fault in found

    def test_a_password_in_a_wrong_url_is_not_told(self, tmp_path: Path) -> None:
        (found,) = faults_of(cwd=tmp_path, code={"broker_url": "user:hunter2@host:1"})
        assert "hunter2" not in found

    @pytest.mark.parametrize("zone", ["UTC", "local", "Europe/Paris", None])
    def test_good_zones(self, tmp_path: Path, zone: str | None) -> None:
        assert quiet(tmp_path, code={"timezone": zone}).settings.timezone == zone


def misspellings(name: str) -> set[str]:
    middle = len(name) // 2
    swapped = name[: middle - 1] + name[middle] + name[middle - 1] + name[middle + 1 :]
    made = {name[:middle] + name[middle + 1 :], name + "s", name[:middle] + "x" + name[middle:], swapped}
    return {wrong for wrong in made if wrong not in OPTIONS}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_misspelt_setting_is_found_and_corrected(name: str, tmp_path: Path) -> None:
    for wrong in misspellings(name):
        (in_env,) = faults_of(cwd=tmp_path, environ={"OPSQ_" + wrong.upper(): "1"})
        assert f"unknown setting {wrong} " in in_env
        assert f"did you mean OPSQ_{name.upper()}?" in in_env
        if len(name) > 4:  # in shared code a short word may well be somebody else's
            (in_code,) = faults_of(cwd=tmp_path, code={wrong: 1})
            assert in_code == f"unknown setting {wrong} (from code {wrong}); did you mean {name}?"


class TestAdvice:
    def test_a_serializer_nobody_accepts_is_mentioned(self, tmp_path: Path) -> None:
        notices = quiet(tmp_path, code={"task_serializer": "yaml", "result_serializer": "yaml"}).notices
        assert [notice.split(",")[0] for notice in notices] == ["task_serializer is yaml", "result_serializer is yaml"]

    def test_pickle_is_mentioned_and_mime_names_count(self, tmp_path: Path) -> None:
        code = {"accept_content": ["application/json", "application/x-python-serialize"]}
        (notice,) = quiet(tmp_path, code=code).notices
        assert notice.startswith("accept_content lists pickle")

    def test_a_setting_without_effect_is_mentioned(self, tmp_path: Path) -> None:
        (notice,) = quiet(tmp_path, code={"gcs_bucket": "b"}).notices
        assert notice == "gcs_bucket has no effect: opsq does not ship this result backend yet (from code gcs_bucket)"


class TestSharedObjects:
    def test_foreign_keys_are_kept_and_imports_skipped(self, tmp_path: Path) -> None:
        module = SimpleNamespace(
            task_acks_late=False,
            datetime=datetime,
            timezone=datetime.timezone,
            app=object(),
            sender_address="a@b",
            worker_pol=lambda: 1,
            _private=1,
            TIME_ZONE="Europe/Paris",
            DATABASES={},
        )
        loaded = quiet(tmp_path, shared=[from_object(module, detail="shop.conf")])
        assert loaded.given() == {"task_acks_late": False}
        assert str(loaded.origins["task_acks_late"]) == "code shop.conf: task_acks_late"
        assert loaded.settings.timezone is None
        assert set(loaded.foreign) == {"sender_address", "TIME_ZONE", "DATABASES"}

    def test_a_near_miss_in_a_shared_object_is_a_fault(self, tmp_path: Path) -> None:
        source = from_object({"task_ack_late": True}, detail="conf")
        assert faults_of(cwd=tmp_path, shared=[source]) == [
            "unknown setting task_ack_late (from code conf: task_ack_late); did you mean task_acks_late?"
        ]

    def test_code_given_by_name_wins_over_an_object(self, tmp_path: Path) -> None:
        loaded = quiet(tmp_path, shared=[from_object({"web_port": 1})], code={"web_port": 2})
        assert loaded.settings.web_port == 2
