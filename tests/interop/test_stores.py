"""What one library writes into a result store, the other reads: states, errors, children, saved groups.

SQLite and files in ``make test``; the other stores with ``INTEROP=full``.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.interop.peers import HERE, Client, Place, full_only, spawn
from tests.servers import redis_server
from tests.servers_cassandra import KEYSPACE, cassandra_server
from tests.servers_cloud import ferretdb_server, memcached_server, s3_server
from tests.servers_sql import maria_server, postgres_server

Store = tuple[str, dict[str, Any]]


def sqlite(servers: ExitStack, folder: Path) -> Store:
    return f"db+sqlite:///{folder}/results.sqlite", {}


def named_tables(servers: ExitStack, folder: Path) -> Store:
    return f"db+sqlite:///{folder}/named.sqlite", {"database_table_names": {"task": "ours", "group": "our_groups"}}


def files(servers: ExitStack, folder: Path) -> Store:
    (folder / "files").mkdir()
    return f"file://{folder}/files", {}


def redis(servers: ExitStack, folder: Path) -> Store:
    options = {"result_backend_transport_options": {"global_keyprefix": "shop"}}
    return servers.enter_context(redis_server(folder)).url, options


def postgres(servers: ExitStack, folder: Path) -> Store:
    return f"db+{servers.enter_context(postgres_server()).url}", {}


def mariadb(servers: ExitStack, folder: Path) -> Store:
    return f"db+{servers.enter_context(maria_server()).url}", {}


def memcached(servers: ExitStack, folder: Path) -> Store:
    return servers.enter_context(memcached_server()).url, {}


def mongodb(servers: ExitStack, folder: Path) -> Store:
    return servers.enter_context(ferretdb_server(folder)).url, {}


def s3(servers: ExitStack, folder: Path) -> Store:
    url = servers.enter_context(s3_server()).url
    login = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **login)
    client.create_bucket(Bucket="results")
    client.close()
    keys = {"s3_access_key_id": "testing", "s3_secret_access_key": "testing", "s3_region": "us-east-1"}
    return "s3://", {"s3_endpoint_url": url, "s3_bucket": "results", "s3_base_path": "shop/", **keys}


def cassandra(servers: ExitStack, folder: Path) -> Store:
    port = servers.enter_context(cassandra_server(folder)).port
    place = {"cassandra_servers": ["127.0.0.1"], "cassandra_port": port}
    return "cassandra://", {**place, "cassandra_keyspace": KEYSPACE, "cassandra_table": "celery_results"}


def django_db(servers: ExitStack, folder: Path) -> Store:
    return "django-db", {"DJANGO_DATABASE": f"{folder}/django.sqlite", "DJANGO_CACHE": f"{folder}/cache"}


def django_cache(servers: ExitStack, folder: Path) -> Store:
    return "django-cache", django_db(servers, folder)[1]


QUICK = (sqlite, files)
SLOW = (named_tables, redis, postgres, mariadb, memcached, mongodb, s3, cassandra, django_db, django_cache)
STORES = (*QUICK, *(pytest.param(each, marks=full_only) for each in SLOW))
#: What Celery's side cannot do: keep saved groups; leave a SUCCESS alone; write children into FerretDB.
WITHOUT_GROUPS = (cassandra,)
OVERWRITES = (django_db,)
WITHOUT_CHILDREN = (mongodb,)


@contextmanager
def both(url: str, settings: dict[str, Any], folder: Path) -> Iterator[dict[str, Client]]:
    """A process of each library at the store; Celery's first, as it may have tables to make."""
    place = Place("memory://", url, "none", folder)
    with ExitStack() as started:
        sides = {}
        for library in ("celery", "opsq"):
            words = (str(HERE / "store_peer.py"), url, json.dumps(settings))
            peer = spawn(place, library, f"store-{library}", *words, pipes=True)
            started.callback(peer.stop)
            sides[library] = Client(peer)
            sides[library].run("write", str(uuid.uuid4()), "STARTED", None, None, False)
        yield sides


@pytest.mark.parametrize("store", STORES, ids=lambda store: getattr(store, "__name__", None))
def test_each_reads_what_the_other_wrote(store: Callable[[ExitStack, Path], Store], tmp_path: Path) -> None:
    with ExitStack() as servers:
        url, settings = store(servers, tmp_path)
        with both(url, settings, tmp_path) as sides:
            for writer, reader in (("celery", "opsq"), ("opsq", "celery")):
                exchange(sides[writer], sides[reader], children=store not in WITHOUT_CHILDREN)
                if store not in OVERWRITES or reader == "opsq":
                    a_success_stays(sides[writer], sides[reader])
                if store not in WITHOUT_GROUPS:
                    id, members = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(3)]
                    sides[writer].run("write_group", id, members)
                    assert sides[reader].run("read_group", id) == members, f"{writer} to {reader}"


def exchange(writer: Client, reader: Client, *, children: bool) -> None:
    """A task's states in turn, and an error."""
    id, failed = str(uuid.uuid4()), str(uuid.uuid4())
    named = ["a-child"] if children else []
    assert reader.run("read", id)["state"] == "PENDING"
    writer.run("write", id, "PROGRESS", {"done": 1}, None, children)
    assert reader.run("read", id) == state("PROGRESS", {"done": 1})
    value = {"é": [1, None, "x" * 1000]}
    writer.run("write", id, "SUCCESS", value, None, children)
    assert reader.run("read", id) == state("SUCCESS", value, children=named)
    writer.run("write", failed, "FAILURE", None, "boom", children)
    assert reader.run("read", failed) == state("FAILURE", ["ValueError", ["boom", 42]], "Traceback …", named)


def a_success_stays(writer: Client, reader: Client) -> None:
    """Whoever comes late."""
    id = str(uuid.uuid4())
    writer.run("write", id, "SUCCESS", 1, None, False)
    reader.run("write", id, "FAILURE", None, "late", False)
    assert [side.run("read", id)["result"] for side in (reader, writer)] == [1, 1]


def state(name: str, result: object, text: str | None = None, children: Sequence[str] = ()) -> dict[str, object]:
    """What a peer answers to ``read``."""
    return {"state": name, "result": result, "traceback": text, "children": list(children)}
