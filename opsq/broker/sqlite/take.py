"""The statements that settle what is done and take what is next, built for a set of queues.

Everything happens inside one INSERT into a view: its trigger settles, picks, leases and removes
from the waiting ones. To Python that is a single call, during which task threads run; as separate
statements the owner thread would have to win the interpreter lock back after each, at up to 5 ms a
time while tasks are busy.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

# A batch is one text up to this size per message; bigger ones are fetched one by one.
BIG_BYTES = 64 * 1024
# A fetch stops after this much, so that a queue of huge messages does not fill the memory.
FETCH_KIB = 32 * 1024

LOST = "lease lost"


class TakeSql(Struct, frozen=True):
    """drop, create: run when the set of queues changes. take: settles and leases; parameters are the
    consumer, a JSON array of ids that are done (or None) and how many to take from each queue.
    fetch: reads what was taken; parameter: epoch seconds now. small: the ids of those that come in
    the batch. peek: says whether anything waits.
    """

    drop: tuple[str, ...]
    create: tuple[str, ...]
    take: str
    fetch: str
    small: str
    peek: str


def build(name: str, queues: Sequence[int]) -> TakeSql:
    """Write the statements for these queue ids. name: sets temporary objects of one connection apart."""
    view, trigger, taken = f"temp.{name}", f"temp.{name}_do", f"temp.{name}_taken"
    shares = [f"share{index}" for index in range(len(queues))]
    columns = ", ".join(["consumer", "done", *shares])
    picks = "".join(_pick(f"{name}_taken", queue, share) for queue, share in zip(queues, shares, strict=True))
    return TakeSql(
        drop=(f"DROP TRIGGER IF EXISTS {trigger}", f"DROP VIEW IF EXISTS {view}", f"DROP TABLE IF EXISTS {taken}"),
        create=(
            f"CREATE TABLE {taken} (rank INTEGER, id INTEGER, queue INTEGER, kib INTEGER, deliveries INTEGER,"
            " PRIMARY KEY (rank, id)) WITHOUT ROWID",
            f"CREATE VIEW {view} ({columns}) AS SELECT {', '.join(['0'] * (len(shares) + 2))}",
            f"CREATE TRIGGER {trigger} INSTEAD OF INSERT ON {name} BEGIN"
            f" {_settle()} {_lease(f'{name}_taken', picks)} END",
        ),
        take=f"INSERT INTO {view} VALUES ({', '.join('?' * (len(shares) + 2))})",
        fetch=_fetch(taken),
        small=f"SELECT t.id FROM {taken} t CROSS JOIN message m ON m.id = t.id WHERE m.size <= {BIG_BYTES}",
        peek="SELECT "
        + (" OR ".join(f"EXISTS (SELECT 1 FROM ready WHERE queue = {queue})" for queue in queues) or "0"),
    )


def _settle() -> str:
    # Only what this consumer still holds: after a lease has run out the message is somebody else's.
    return f"""
        SELECT RAISE(ABORT, '{LOST}') WHERE NOT EXISTS (SELECT 1 FROM consumer WHERE id = NEW.consumer);
        DELETE FROM message WHERE NEW.done IS NOT NULL AND id IN
            (SELECT l.id FROM json_each(NEW.done) j CROSS JOIN leased l ON l.id = j.value
             WHERE l.consumer = NEW.consumer);
        DELETE FROM leased WHERE NEW.done IS NOT NULL AND consumer = NEW.consumer
            AND id IN (SELECT value FROM json_each(NEW.done));"""


def _pick(taken: str, queue: int, share: str) -> str:
    return f"""
        INSERT INTO {taken} SELECT rank, id, {queue}, kib, deliveries + 1 FROM
            (SELECT rank, id, kib, deliveries, sum(kib) OVER (ROWS UNBOUNDED PRECEDING) - kib AS before FROM
                (SELECT rank, id, kib, deliveries FROM ready WHERE queue = {queue} ORDER BY rank, id LIMIT NEW.{share}))
            WHERE before < {FETCH_KIB};"""


def _lease(taken: str, picks: str) -> str:
    return f"""
        DELETE FROM {taken}; {picks}
        INSERT INTO leased SELECT id, NEW.consumer, queue, rank, kib, deliveries FROM {taken};
        DELETE FROM ready WHERE (queue, rank, id) IN (SELECT queue, rank, id FROM {taken});"""


def _fetch(taken: str) -> str:
    # The order is that of the primary key of the taken ones: by rank, then by age.
    return f"""
        SELECT CAST('[' || group_concat(line) || ']' AS BLOB), group_concat(expired), group_concat(big) FROM (
            SELECT CASE WHEN live AND size <= {BIG_BYTES} THEN '[' || envelope
                       || CASE WHEN deliveries > 1 THEN ',true,' ELSE ',false,' END
                       || label || ',' || id || ',' || deliveries || ']' END AS line,
                   CASE WHEN NOT live THEN id END AS expired,
                   CASE WHEN live AND size > {BIG_BYTES} THEN id END AS big
            FROM (SELECT t.id, t.deliveries, m.size, m.envelope, q.label,
                         m.expires_at IS NULL OR m.expires_at > ? AS live
                  FROM {taken} t CROSS JOIN message m ON m.id = t.id CROSS JOIN queue q ON q.id = t.queue))"""


def shares(room: int, active: Sequence[bool], turn: int) -> list[int]:
    """Divide ``room`` among queues: those that had messages last time first, the others one each.

    active: per queue, whether the last fetch brought something. turn: counts up, so that the odd
    ones go round. The sum is never more than ``room``.
    """
    count = len(active)
    if count == 1:
        return [room]
    if room < count:
        given = [0] * count
        for step in range(room):
            given[(turn + step) % count] = 1
        return given
    busy = [index for index in range(count) if active[index]] or list(range(count))
    given = [1] * count
    spare = room - count
    for index in busy:
        given[index] += spare // len(busy)
    for step in range(spare % len(busy)):
        given[busy[(turn + step) % len(busy)]] += 1
    return given
