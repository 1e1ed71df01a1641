"""The store contract on memcached, S3, files, MongoDB, Cassandra and Django; the slow ones with INTEROP=full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import boto3
import pytest

from opsq.core.backends.base import Backend
from opsq.core.backends.registry import open_backend
from opsq.errors import BackendUnavailable, ConfigError, UsageError
from opsq.masking import Secret
from opsq.settings import Settings
from opsq.testing.contract_backend import BackendContract, Store, opened, payload, put, unique
from tests.servers import free_port
from tests.servers_cloud import ferretdb_server, memcached_server, s3_server

LONG = os.environ.get("INTEROP") == "full"
long_suite = pytest.mark.skipif(not LONG, reason="runs in make interop")
BUCKET = "results"


@pytest.fixture(scope="module")
def memcached() -> Iterator[str]:
    with memcached_server() as server:
        yield server.url


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """The settings of a bucket."""
    with s3_server() as server:
        key = Secret("testing")
        login = {"s3_access_key_id": key, "s3_secret_access_key": key, "s3_region": "us-east-1"}
        client = boto3.client(
            "s3",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield {"s3_endpoint_url": server.url, "s3_bucket": BUCKET, "s3_base_path": "shop/", **login}


@pytest.fixture(scope="module")
def mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ferretdb_server(tmp_path_factory.mktemp("ferretdb")) as server:
        yield server.url


class TestFilesystem(BackendContract):
    """Files."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """A folder that is not there yet."""
        return {"result_backend": f"file://{tmp_path}/results"}

    def test_names_are_celerys_and_stay_in_the_folder(self, backend: Backend, tmp_path: Path) -> None:
        """Whatever the id is."""
        put(backend, "1234-abcd", "SUCCESS", 1)
        put(backend, "../../etc/passwd", "SUCCESS", 1)
        names = sorted(path.name for path in (tmp_path / "results").iterdir())
        assert "celery-task-meta-1234-abcd" in names
        assert len(names) == 3, "the two, and the lock"
        assert [path.name for path in tmp_path.iterdir()] == ["results"]


class TestMemcached(BackendContract):
    """memcached."""

    @pytest.fixture
    def store(self, memcached: str) -> Store:
        """The module's."""
        return {"result_backend": memcached}

    def test_what_is_too_large_says_so(self, backend: Backend) -> None:
        """Not a connection's fault, so it is not tried again."""
        id = unique()
        with pytest.raises(UsageError, match="larger than memcached takes"):
            put(backend, id, "SUCCESS", "x" * 1_100_000)

    def test_several_servers_share_the_keys(self, memcached: str) -> None:
        """As Celery's URL with semicolons."""
        with memcached_server() as other:
            both = f"{memcached.rstrip('/')};{other.url.partition('://')[2]}"
            for backend in opened(
                {"result_backend": both, "cache_backend_options": {"behaviors": {}, "retry_attempts": 2}}
            ):
                ids = [unique() for _ in range(20)]
                for id in ids:
                    assert put(backend, id, "SUCCESS", 1)
                    assert not put(backend, id, "FAILURE")
                assert set(backend.get_many("task", ids)) == set(ids)


@long_suite
class TestS3(BackendContract):
    """S3, as moto plays it."""

    many: ClassVar[int] = 120

    brief_s: ClassVar[float] = 1.0

    @pytest.fixture
    def store(self, s3: dict[str, Any]) -> Store:
        """The module's bucket."""
        return {"result_backend": "s3://", **s3}

    def test_a_bucket_that_is_not_there_is_named(self, s3: dict[str, Any]) -> None:
        """In one sentence."""
        for backend in opened({**s3, "result_backend": "s3://nowhere", "s3_bucket": None}):
            with pytest.raises(BackendUnavailable, match="bucket nowhere"):
                put(backend, unique(), "SUCCESS")


@long_suite
class TestMongodb(BackendContract):
    """MongoDB's protocol, spoken by FerretDB."""

    @pytest.fixture
    def store(self, mongodb: str) -> Store:
        """The module's."""
        return {"result_backend": mongodb}


@pytest.mark.parametrize(
    ("url", "settings", "said"),
    [
        ("file://", {}, "no absolute folder"),
        ("file:///proc/cpuinfo", {}, "no folder that this process may write"),
        ("cache+memcached://", {}, "names no server"),
        ("s3://", {}, "set s3_bucket"),
        ("mongodb://", {"mongodb_backend_settings": {"nosuch": 1}}, "nosuch"),
        ("sentinel://127.0.0.1:26379/0", {}, "master_name"),
        ("redis://", {"redis_backend_credential_provider": "os:sep"}, "CredentialProvider"),
    ],
)
def test_what_is_configured_wrong_is_said_in_one_sentence(url: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as told:
        open_backend(url, Settings(**settings)).get("task", "a")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"result_backend": "database", "database_url": "sqlite:////tmp/none.db"}, "SqlBackend"),
        ({"result_backend": "cache", "cache_backend": "memcached://127.0.0.1:1/"}, "MemcachedBackend"),
        ({"result_backend": "cache", "cache_backend": "memory://"}, "MemoryBackend"),
        (
            {
                "result_backend": "cassandra",
                "override_backends": {"cassandra": "opsq.core.backends.memory:open_memory"},
            },
            "MemoryBackend",
        ),
    ],
)
def test_names_from_before_urls(settings: Store, kind: str) -> None:
    for backend in opened(settings):
        assert type(backend).__name__ == kind


@pytest.mark.parametrize("url", ["cache+memcached://127.0.0.1:{}/", "mongodb://127.0.0.1:{}/"])
def test_a_server_that_is_away_is_named_in_one_line(url: str) -> None:
    port = free_port()
    options = {"options": {"serverSelectionTimeoutMS": 50}}
    for backend in opened({"result_backend": url.format(port), "mongodb_backend_settings": options}):
        with pytest.raises(BackendUnavailable, match=f"127.0.0.1:{port}") as told:
            backend.put("task", "a", payload("a", "SUCCESS"), state="SUCCESS", ttl_s=1)
        assert "\n" not in str(told.value)
