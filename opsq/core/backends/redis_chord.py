"""Chords counted in Redis, under Celery's keys, so that workers of both complete the same chords.

Each step is one script. Two keys are ours alone: ``….b`` with the body of a chord that is being completed,
and the index of claims that the sweeper reads; Celery neither writes nor minds them.

Source: celery-protocol D.4 (keys ``.j .t .s .d .c``).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from opsq.core.backends.base import Kind

_CLAIMS: Final = "opsq:chords"
_STARTED: Final = "opsq-chord-started-"
_MOST_DUE: Final = 100

# KEYS: j t s d c. ARGV: payload, score, member of d, ttl in s or 0, claim in s, token, 1 for a list in order.
_PART: Final = """
local held = redis.call('GET', KEYS[5])
if held == 'done' then return 0 end
if redis.call('SISMEMBER', KEYS[4], ARGV[3]) == 0 then
    if ARGV[7] == '1' then redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
    else redis.call('RPUSH', KEYS[1], ARGV[1]) end
    redis.call('SADD', KEYS[4], ARGV[3])
end
if ARGV[4] ~= '0' then
    for place = 1, 4 do redis.call('EXPIRE', KEYS[place], ARGV[4]) end
end
local size = redis.call('GET', KEYS[3])
if not size then return 0 end
local more = redis.call('GET', KEYS[2]) or 0
local came = ARGV[7] == '1' and redis.call('ZCARD', KEYS[1]) or redis.call('LLEN', KEYS[1])
if came < tonumber(size) + tonumber(more) then return 0 end
if held and held ~= ARGV[6] then return 0 end
redis.call('SET', KEYS[5], ARGV[6], 'EX', ARGV[5])
return 1
"""
# KEYS: c s b claims. ARGV: token, claim in s, body, ttl in s or 0, group id.
_HOLD: Final = """
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] and (held or redis.call('EXISTS', KEYS[2]) == 0) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if ARGV[4] == '0' then redis.call('SET', KEYS[3], ARGV[3])
else redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[4]) end
redis.call('ZADD', KEYS[4], redis.call('TIME')[1] + ARGV[2] + 1, ARGV[5])
return 1
"""
# KEYS: c j t s d b claims. ARGV: token, seconds to remember, group id.
_CLOSE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
redis.call('ZREM', KEYS[7], ARGV[3])
return 1
"""
# KEYS: claims. ARGV: how many at most.
_DUE: Final = """
local now = redis.call('TIME')[1]
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
"""
# KEYS: c s claims. ARGV: token, claim in s, group id.
_TAKE: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('EXISTS', KEYS[2]) == 0 then
    if redis.call('GET', KEYS[1]) == 'done' or redis.call('EXISTS', KEYS[2]) == 0 then
        redis.call('ZREM', KEYS[3], ARGV[3])
    end
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('ZADD', KEYS[3], redis.call('TIME')[1] + ARGV[2] + 1, ARGV[3])
return 1
"""
# KEYS: started. ARGV: run, ttl in s or 0.
_START: Final = """
local run = redis.call('GET', KEYS[1])
if run then return run == ARGV[1] and 1 or 0 end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
return 1
"""


class RedisChords(Protocol):
    """The chords of a Redis backend, which has the keys and the connection. Thread: any.

    Parts are kept in order unless the transport option ``result_chord_ordered`` is false; Celery's workers
    beside must say the same, since the kind of the key depends on it.
    """

    _prefix: str
    _ordered: bool

    def key(self, kind: Kind, id: str) -> str:
        """The key of an entry."""
        ...

    def _using(self) -> AbstractContextManager[Any]:
        """A client, its errors translated."""
        ...

    def chord_open(self, group_id: str, size: int, ttl_s: float | None) -> None:
        """Say how many parts there are, and forget that it was done."""
        with self._using() as client, client.pipeline(transaction=True) as steps:
            steps.set(self._part(group_id, "s"), size, ex=_whole(ttl_s) or None)
            steps.delete(self._part(group_id, "c"))
            steps.execute()

    def chord_grow(self, group_id: str, more: int, ttl_s: float | None) -> None:
        """Add to the size."""
        with self._using() as client, client.pipeline(transaction=True) as steps:
            steps.incrby(self._part(group_id, "t"), more)
            if ttl_s:
                steps.expire(self._part(group_id, "t"), _whole(ttl_s))
            steps.execute()

    def chord_part(
        self,
        group_id: str,
        task_id: str,
        index: int | None,
        payload: bytes,
        token: str,
        claim_s: float,
        ttl_s: float | None,
    ) -> bool:
        """Keep a part; true when all are there and the chord is ``token``'s."""
        score = "+inf" if index is None else str(index)
        args = [payload, score, f"{task_id}:{score}", _whole(ttl_s), _whole(claim_s), token, int(self._ordered)]
        return self._run(_PART, self._parts(group_id, "jtsdc"), args)

    def chord_hold(self, group_id: str, token: str, claim_s: float, body: bytes, ttl_s: float | None) -> bool:
        """Renew a claim and keep the body."""
        keys = [*self._parts(group_id, "csb"), self._claims]
        return self._run(_HOLD, keys, [token, _whole(claim_s), body, _whole(ttl_s), group_id])

    def chord_parts(self, group_id: str) -> list[bytes]:
        """The parts, in order or as they came."""
        with self._using() as client:
            read = client.zrange if self._ordered else client.lrange
            return list(read(self._part(group_id, "j"), 0, -1))

    def chord_is_open(self, group_id: str) -> bool:
        """Whether it was announced and is not done."""
        with self._using() as client:
            return bool(client.exists(self._part(group_id, "s")))

    def chord_close(self, group_id: str, token: str, keep_s: float) -> None:
        """Mark it done, if it is ``token``'s."""
        self._run(_CLOSE, [*self._parts(group_id, "cjtsdb"), self._claims], [token, _whole(keep_s), group_id])

    def chord_due(self) -> list[tuple[str, bytes]]:
        """Chords whose claim has ended, and their bodies."""
        with self._using() as client:
            ids = [id.decode() for id in client.eval(_DUE, 1, self._claims, _MOST_DUE)]
            if not ids:
                return []
            bodies = client.mget([self._part(id, "b") for id in ids])
            gone = [id for id, body in zip(ids, bodies, strict=True) if body is None]
            if gone:
                client.zrem(self._claims, *gone)
        return [(id, body) for id, body in zip(ids, bodies, strict=True) if body is not None]

    def chord_take(self, group_id: str, token: str, claim_s: float) -> bool:
        """Hold a chord whose claim has ended."""
        keys = [*self._parts(group_id, "cs"), self._claims]
        return self._run(_TAKE, keys, [token, _whole(claim_s), group_id])

    def chord_start(self, task_id: str, run: str, ttl_s: float | None) -> bool:
        """Note that ``run`` starts this task."""
        return self._run(_START, [f"{self._prefix}{_STARTED}{task_id}"], [run, _whole(ttl_s)])

    def _run(self, script: str, keys: list[str], args: list[Any]) -> bool:
        with self._using() as client:
            return bool(client.eval(script, len(keys), *keys, *args))

    @property
    def _claims(self) -> str:
        return f"{self._prefix}{_CLAIMS}"

    def _part(self, group_id: str, letter: str) -> str:
        return f"{self.key('group', group_id)}.{letter}"

    def _parts(self, group_id: str, letters: str) -> list[str]:
        return [self._part(group_id, letter) for letter in letters]


def _whole(seconds: float | None) -> int:
    return 0 if not seconds else max(1, int(seconds))
