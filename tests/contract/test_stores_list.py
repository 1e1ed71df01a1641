"""Every result store of the mission, and how it is tested: nothing registered without a row, no row without its test.

``docs/results.md`` has the same table for people; it is compared with this one.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from opsq import plugins
from opsq.core.backends.registry import SCHEMES

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs" / "results.md"


class Row(NamedTuple):
    """How a store is tested.

    module: of ``opsq.core.backends``. against: the server, as the docs say it. suite: file and class that run
    ``BackendContract`` on it, or the file with tests of its own where it is no store. extra: to install.
    """

    module: str
    against: str
    suite: tuple[str, str]
    extra: str | None = None


STORES = {
    "SQLite": Row("sqlite", "SQLite", ("test_backend_contract.py", "TestSqlite")),
    "Redis": Row("redis", "Redis 7", ("test_backend_contract.py", "TestRedis"), "redis"),
    "Redis over TLS": Row("redis", "Redis 7 with client certificates", ("test_redis_results.py", "TestTls"), "redis"),
    "Redis behind Sentinel": Row(
        "redis", "a primary, a replica, a sentinel", ("test_redis_results.py", "TestSentinels"), "redis"
    ),
    "RPC/AMQP": Row("rpc", "RabbitMQ, SQLite", ("../unit/core/test_rpc_results.py", "")),
    "PostgreSQL": Row("sql", "PostgreSQL 15", ("test_sql_results.py", "TestPostgres"), "sqlalchemy"),
    "MySQL, MariaDB": Row("sql", "MariaDB 10.11", ("test_sql_results.py", "TestMariaDB"), "mysql"),
    "SQLite by SQLAlchemy": Row("sql", "SQLite", ("test_sql_results.py", "TestSqlite"), "sqlalchemy"),
    "memcached": Row("memcached", "memcached 1.6", ("test_other_results.py", "TestMemcached"), "memcached"),
    "MongoDB": Row("mongodb", "FerretDB 1.24", ("test_other_results.py", "TestMongodb"), "mongodb"),
    "Cassandra": Row("cassandra", "Cassandra 5.0", ("cassandra_result_cases.py", "TestCassandra"), "cassandra"),
    "Django ORM": Row("django_db", "Django 5.2 on SQLite", ("django_result_cases.py", "TestDatabase"), "django"),
    "Django cache": Row("django_cache", "Django's file cache", ("django_result_cases.py", "TestSharedCache"), "django"),
    "files": Row("filesystem", "a local disk", ("test_other_results.py", "TestFilesystem")),
    "S3": Row("s3", "moto 5", ("test_other_results.py", "TestS3"), "s3"),
    "memory": Row("memory", "this process", ("test_backend_contract.py", "TestMemory")),
    "disabled": Row("disabled", "this process", ("../unit/core/test_results.py", "")),
}


@pytest.mark.parametrize("name", STORES)
def test_its_suite_is_there(name: str) -> None:
    file, wanted = STORES[name].suite
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    classes = {
        node.name: [ast.unparse(base) for base in node.bases] for node in tree.body if isinstance(node, ast.ClassDef)
    }
    if wanted:
        assert classes.get(wanted) == ["BackendContract"]
    else:
        assert STORES[name].module in (HERE / file).read_text(encoding="utf-8")


def test_every_registered_store_has_a_row() -> None:
    """A store that is registered and not tested would be a promise nobody checks."""
    registered = {path.partition(":")[0].rpartition(".")[2] for path in SCHEMES.values()}
    assert registered == {row.module for row in STORES.values()}


def test_every_extra_is_one() -> None:
    """What a missing library's message says to install."""
    assert {row.extra for row in STORES.values() if row.extra} - {"sqlalchemy", "mysql", "s3"} <= set(
        plugins.EXTRAS.values()
    )


WITHOUT_LIBRARIES = """
import sys
from opsq.core.backends.registry import open_backend
from opsq.errors import ConfigError
from opsq.settings import Settings

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
for scheme in sys.argv[2].split(","):
    try:
        open_backend(f"{scheme}://", Settings())
    except ConfigError as error:
        print(scheme, str(error).count(chr(10)), error)
"""


def test_a_missing_library_is_said_in_one_sentence_with_what_to_install() -> None:
    libraries = {
        "redis": "redis",
        "db": "sqlalchemy",
        "memcached": "pymemcache",
        "mongodb": "pymongo",
        "cassandra": "cassandra",
        "django-db": "django",
        "django-cache": "django",
        "s3": "boto3",
    }
    words = (",".join(libraries.values()), ",".join(libraries))
    done = subprocess.run([sys.executable, "-c", WITHOUT_LIBRARIES, *words], capture_output=True, text=True, check=True)
    told = {line.split(" ", 1)[0]: line for line in done.stdout.splitlines()}
    assert told.keys() == libraries.keys(), done.stdout
    for scheme, library in libraries.items():
        extra = plugins.EXTRAS[library]
        assert told[scheme].startswith(f"{scheme} 0 "), "more than one line"
        assert f"{library}, which is not installed" in told[scheme]
        assert f'pip install "opsq[{extra}]"' in told[scheme]


def test_the_docs_say_the_same() -> None:
    """Row by row: the store, and what it is tested against."""
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    told = {cells[1].strip(): cells[-2].strip() for line in lines if len(cells := line.split("|")) == 9}
    assert {name: told.get(name) for name in STORES} == {name: row.against for name, row in STORES.items()}
