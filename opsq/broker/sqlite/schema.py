"""The tables of the embedded broker, and the opening of its file.

One file holds everything. Who touches what:

    exchange, queue, binding   topology; ``topology.version`` counts every change of it
    message                    the bytes; written once, deleted when settled, never updated
    ready                      which messages may be handed out, in the order they go out
    leased                     which messages are with which consumer
    consumer, consuming        who reads, from where, and until when its lease holds

Moving a message between waiting and handed out touches only the small rows of ``ready`` and
``leased``; a big body is written to the log exactly once.
"""

from __future__ import annotations

import sqlite3

from opsq.broker.faults import BrokerUnusable

SCHEMA_VERSION = 1
APPLICATION_ID = 0x6F707371  # "opsq"; tells our file from somebody else's

# envelope is the JSON array of a Delivery's fields without its brackets, so that a batch can be
# joined into one text inside SQLite. rank is 9 - priority: what is served first sorts first.
# ready.kib lets a fetch stop before it has taken too many bytes. Times are epoch seconds, but
# consumer.expires_at, which is CLOCK_MONOTONIC of that boot.
_SCHEMA = """
CREATE TABLE topology (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL);
INSERT INTO topology VALUES (1, 1);
CREATE TABLE exchange (
    name TEXT PRIMARY KEY, type TEXT NOT NULL, durable INTEGER NOT NULL, auto_delete INTEGER NOT NULL,
    arguments TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, label TEXT NOT NULL,
    durable INTEGER NOT NULL, auto_delete INTEGER NOT NULL, exclusive INTEGER NOT NULL,
    ttl_s REAL, expires_s REAL, max_length INTEGER, arguments TEXT NOT NULL,
    used_at REAL NOT NULL, consumed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE binding (
    exchange TEXT NOT NULL, routing_key TEXT NOT NULL, queue INTEGER NOT NULL, arguments TEXT NOT NULL,
    PRIMARY KEY (exchange, routing_key, queue)
) WITHOUT ROWID;
CREATE INDEX binding_queue ON binding (queue);
CREATE TABLE message (
    id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, rank INTEGER NOT NULL, size INTEGER NOT NULL,
    sent_at REAL NOT NULL, expires_at REAL, envelope TEXT NOT NULL
);
CREATE INDEX message_expiry ON message (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE ready (
    queue INTEGER NOT NULL, rank INTEGER NOT NULL, id INTEGER NOT NULL, kib INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, PRIMARY KEY (queue, rank, id)
) WITHOUT ROWID;
CREATE TRIGGER message_is_ready AFTER INSERT ON message BEGIN
    INSERT INTO ready VALUES (NEW.queue, NEW.rank, NEW.id, NEW.size >> 10, 0);
END;
CREATE TABLE consumer (
    id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL, boot TEXT NOT NULL, namespace TEXT NOT NULL,
    pid INTEGER NOT NULL, started TEXT NOT NULL, expires_at REAL NOT NULL
);
CREATE TABLE consuming (
    queue INTEGER NOT NULL, consumer INTEGER NOT NULL, PRIMARY KEY (queue, consumer)
) WITHOUT ROWID;
CREATE TABLE leased (
    id INTEGER PRIMARY KEY, consumer INTEGER NOT NULL, queue INTEGER NOT NULL, rank INTEGER NOT NULL,
    kib INTEGER NOT NULL, deliveries INTEGER NOT NULL
);
CREATE TRIGGER exchange_made AFTER INSERT ON exchange BEGIN UPDATE topology SET version = version + 1; END;
CREATE TRIGGER exchange_gone AFTER DELETE ON exchange BEGIN UPDATE topology SET version = version + 1; END;
CREATE TRIGGER queue_made AFTER INSERT ON queue BEGIN UPDATE topology SET version = version + 1; END;
CREATE TRIGGER queue_gone AFTER DELETE ON queue BEGIN UPDATE topology SET version = version + 1; END;
CREATE TRIGGER binding_made AFTER INSERT ON binding BEGIN UPDATE topology SET version = version + 1; END;
CREATE TRIGGER binding_gone AFTER DELETE ON binding BEGIN UPDATE topology SET version = version + 1; END;
"""


def is_current(connection: sqlite3.Connection) -> bool:
    """Say whether the file has our tables in our version."""
    return _marks(connection) == (SCHEMA_VERSION, APPLICATION_ID)


def may_create(connection: sqlite3.Connection, path: str) -> bool:
    """Say whether the file is empty; ``False`` when it is current. The caller holds the write transaction.

    Raises: BrokerUnusable when the file is newer than this opsq or is not ours.
    """
    version, application = _marks(connection)
    if (version, application) == (SCHEMA_VERSION, APPLICATION_ID):
        return False
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise BrokerUnusable(
            f"broker file {path}: its format is {version}, this opsq knows {SCHEMA_VERSION}; "
            "start the newer opsq that wrote it, or name another file"
        )
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if tables:
        raise BrokerUnusable(
            f"broker file {path}: it is a SQLite database of something else ({tables} tables, "
            f"application id {application}); name another file"
        )
    return True


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    return version, int(connection.execute("PRAGMA application_id").fetchone()[0])


def create(connection: sqlite3.Connection) -> None:
    """Create the tables; the caller holds the write transaction."""
    for statement in _statements(_SCHEMA):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _statements(script: str) -> list[str]:
    """Cut a script into statements; ``executescript`` would commit the caller's transaction."""
    found, rest = [], ""
    for line in script.splitlines(keepends=True):
        rest += line
        if sqlite3.complete_statement(rest):
            found.append(rest)
            rest = ""
    return found
