"""What a client does and what must come of it; runs in the client's process, under either library.

Each case gets the module ``fleet_app`` and uses names that both libraries have. It raises when
something is not as it must be. ``CASES`` says which there are.
"""

from __future__ import annotations

import datetime
import decimal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

WAIT_S = 30
LOOK_AGAIN_S = 5
#: Name → what the worker must be able to do for it (``limits``: time limits, so processes).
CASES: dict[str, frozenset[str]] = {}


def case(*needs: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into the table."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        CASES[function.__name__] = frozenset(needs)
        return function

    return add


def same(got: Any, expected: Any) -> None:
    """Fail with both values; plain asserts say nothing outside pytest."""
    if got != expected:
        raise AssertionError(f"expected {expected!r}, got {got!r}")


def value_of(result: Any) -> Any:
    """Wait for a result that is not the published call's own, and return its value or raise its error.

    Celery's client subscribes to such a result and looks at the store over another connection, without an answer to
    the first; what is stored between the two is never told. So it looks again.
    """
    end = time.monotonic() + WAIT_S
    while True:
        try:
            return result.get(timeout=LOOK_AGAIN_S)
        except Exception as exc:
            if type(exc).__name__ not in ("TimeoutError", "ResultTimeout") or time.monotonic() > end:
                raise


@contextmanager
def raising(kind: type[BaseException] | tuple[str, ...]) -> Iterator[list[BaseException]]:
    """Fail unless the block raises ``kind``, or a class of one of these names; the list then holds the error."""
    caught: list[BaseException] = []
    try:
        yield caught
    except BaseException as exc:
        expected = type(exc).__name__ in kind if isinstance(kind, tuple) else isinstance(exc, kind)
        if not expected:
            raise
        caught.append(exc)
    else:
        raise AssertionError(f"expected {kind}, nothing was raised")


def until(condition: Callable[[], Any], what: str, within_s: float = WAIT_S) -> Any:
    """Wait until ``condition`` gives something true, and return that."""
    end = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"never came: {what}")
        time.sleep(0.02)
    return found


# ---- results


@case()
def success(m: Any) -> None:
    result = m.add.delay(2, 3)
    same(result.get(timeout=WAIT_S), 5)
    same((result.state, result.successful(), result.traceback), ("SUCCESS", True, None))
    until(lambda: result.date_done, "the date")


@case()
def failure(m: Any) -> None:
    result = m.boom.delay()
    with raising(ValueError) as caught:
        result.get(timeout=WAIT_S)
    same(caught[0].args, ("boom", 42))
    same((result.state, result.failed()), ("FAILURE", True))
    same(type(result.result), ValueError)
    if 'raise ValueError("boom", 42)' not in result.traceback or "in boom" not in result.traceback:
        raise AssertionError(f"this traceback says too little: {result.traceback}")


@case()
def failure_of_our_own_class(m: Any) -> None:
    with raising(m.StockError) as caught:
        m.out_of_stock.delay().get(timeout=WAIT_S)
    same(caught[0].args, ("out of stock", {"sku": 7}))


@case()
def failure_of_an_unknown_class(m: Any) -> None:
    # A child of Celery's prefork pool wraps what it cannot pickle, and Celery's client leaves it wrapped.
    with raising(("GhostError", "UnpickleableExceptionWrapper")) as caught:
        m.ghost.delay().get(timeout=WAIT_S)
    if m.LIBRARY == "opsq":
        same((type(caught[0]).__name__, caught[0].args), ("GhostError", ("booh",)))
    same("booh" in str(caught[0]), True)


@case()
def failure_returned(m: Any) -> None:
    error = m.boom.delay().get(timeout=WAIT_S, propagate=False)
    same((type(error), error.args), (ValueError, ("boom", 42)))


@case()
def extended_result(m: Any) -> None:
    result = m.echo.delay("x", y=1)
    same(result.get(timeout=WAIT_S), {"value": "x", "y": 1})
    same((result.name, list(result.args), result.kwargs), ("fleet_app.echo", ["x"], {"y": 1}))
    same((result.retries, result.queue), (0, m.app.conf.task_default_queue))
    if "@" not in result.worker:
        raise AssertionError(f"no node name: {result.worker!r}")


@case()
def ignored_result(m: Any) -> None:
    key = str(uuid.uuid4())
    result = m.write_down.delay(key, "here")
    same(m.journal.blpop([key], WAIT_S), (key, "here"))
    quiet = m.add.apply_async((1, 1), ignore_result=True)
    same(m.add.delay(1, 2).get(timeout=WAIT_S), 3)
    same(m.journal.exists(f"celery-task-meta-{result.id}", f"celery-task-meta-{quiet.id}"), 0)


@case()
def custom_state(m: Any) -> None:
    gate = str(uuid.uuid4())
    result = m.in_steps.delay(gate)
    until(lambda: result.state == "PROGRESS", "the state PROGRESS")
    same((result.info, result.name), ({"current": 1, "total": 2}, "fleet_app.in_steps"))
    m.journal.rpush(gate, "go")
    same(result.get(timeout=WAIT_S), "done")


@case()
def rejected(m: Any) -> None:
    result = m.refuse.delay()
    with raising(m.exceptions.Reject):
        result.get(timeout=WAIT_S)
    same(result.state, "FAILURE")


@case()
def ignored_run(m: Any) -> None:
    result = m.ignored.delay()
    same(m.add.delay(1, 2).get(timeout=WAIT_S), 3)
    same(result.ready(), False)


@case()
def unknown_task(m: Any) -> None:
    result = m.app.send_task("fleet_app.nobody_has_this")
    with raising(m.exceptions.NotRegistered) as caught:
        result.get(timeout=WAIT_S)
    same(caught[0].args, ("fleet_app.nobody_has_this",))


@case()
def children(m: Any) -> None:
    result = m.spawn.delay()
    child_id = result.get(timeout=WAIT_S)
    same([child.id for child in result.children], [child_id])
    same(result.children[0].get(timeout=WAIT_S), 3)


@case()
def forget(m: Any) -> None:
    result = m.add.delay(1, 1)
    result.get(timeout=WAIT_S)
    result.forget()
    same(m.app.AsyncResult(result.id).state, "PENDING")


# ---- time


@case()
def retry_until_it_works(m: Any) -> None:
    same(m.third_time.delay().get(timeout=WAIT_S), 2)


@case()
def retry_in_vain(m: Any) -> None:
    result = m.never.delay()
    with raising(m.StockError):
        result.get(timeout=WAIT_S)
    same((result.state, result.retries), ("FAILURE", 1))


@case()
def retry_seen_in_between(m: Any) -> None:
    result = m.much_later.delay()
    until(lambda: result.state == "RETRY", "the state RETRY")
    same((type(result.result), result.result.args), (ValueError, ("later",)))
    same((result.ready(), "later" in result.traceback), (False, True))


@case()
def retry_by_itself(m: Any) -> None:
    same(m.by_itself.delay().get(timeout=WAIT_S), 1)


@case()
def countdown(m: Any) -> None:
    began = time.time()
    ran_at = m.when.apply_async(countdown=0.6).get(timeout=WAIT_S)
    if not 0.59 <= ran_at - began < WAIT_S:
        raise AssertionError(f"ran after {ran_at - began:.3f} s")


@case()
def eta_in_another_zone(m: Any) -> None:
    due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.6)
    zone = datetime.timezone(datetime.timedelta(hours=-7))
    ran_at = m.when.apply_async(eta=due.astimezone(zone)).get(timeout=WAIT_S)
    if not 0 <= ran_at - due.timestamp() < WAIT_S:
        raise AssertionError(f"ran {ran_at - due.timestamp():.3f} s after its time")


@case()
def expired(m: Any) -> None:
    result = m.add.apply_async((1, 1), countdown=0.8, expires=0.3)
    with raising(m.exceptions.TaskRevokedError) as caught:
        result.get(timeout=WAIT_S)
    same((result.state, caught[0].args), ("REVOKED", ("expired",)))


@case()
def not_yet_expired(m: Any) -> None:
    same(m.add.apply_async((1, 1), expires=60).get(timeout=WAIT_S), 2)


@case("limits")
def soft_time_limit(m: Any) -> None:
    same(m.interrupted.apply_async((10,), soft_time_limit=0.5).get(timeout=WAIT_S), "cleaned up")
    with raising(m.exceptions.SoftTimeLimitExceeded):
        m.nap.apply_async((10,), soft_time_limit=0.5).get(timeout=WAIT_S)


@case("limits")
def hard_time_limit(m: Any) -> None:
    with raising(m.exceptions.TimeLimitExceeded):
        m.nap.apply_async((10,), time_limit=1).get(timeout=WAIT_S)


# ---- what travels with a call


@case()
def request(m: Any) -> None:
    result = m.about_me.apply_async(
        headers={"my": "own"}, priority=6, shadow="another name", time_limit=300, soft_time_limit=200
    )
    seen = result.get(timeout=WAIT_S)
    same((seen["id"], seen["root_id"], seen["correlation_id"]), (result.id, result.id, result.id))
    same((seen["my"], seen["priority"], seen["shadow"]), ("own", 6, "another name"))
    same((seen["timelimit"], seen["parent_id"], seen["retries"]), ([300, 200], None, 0))


@case()
def any_text_as_id(m: Any) -> None:
    name = f"order 7/é {uuid.uuid4()}"
    same(m.about_me.apply_async(task_id=name).get(timeout=WAIT_S)["id"], name)


@case()
def stamps(m: Any) -> None:
    signature = m.about_me.si()
    signature.options.update(mark="blue", stamped_headers=["mark"])
    chained = signature | m.about_me.si()
    chained.tasks[1].options.update(mark="red", stamped_headers=["mark"])
    result = chained.apply_async()
    last = result.get(timeout=WAIT_S)
    first = result.parent.get(timeout=WAIT_S)
    same((first["stamps"], first["stamped_headers"]), ({"mark": "blue"}, ["mark"]))
    same(last["stamped_headers"], ["mark"])
    same(last["parent_id"], result.parent.id)


@case()
def extra_types(m: Any) -> None:
    value = {
        "datetime": datetime.datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
        "date": datetime.date(2030, 1, 2),
        "time": datetime.time(3, 4, 5),
        "decimal": decimal.Decimal("1.50"),
        "uuid": uuid.UUID(int=7),
        "text": b"abc".decode() + " é\u2028",
        "bytes": b"abc",
        "more bytes": b"\xff\x00",
        "numbers": [1.5, None, True, -(2**40)],
    }
    same(m.echo.delay(value).get(timeout=WAIT_S), value)
    same(m.kind_of.delay(value["decimal"]).get(timeout=WAIT_S), "Decimal")


def _serializer(m: Any, name: str) -> None:
    value = {"a": [1, 2.5, "é", None, True], "deep": {"er": [[], {}]}}
    same(m.echo.apply_async((value,), {"named": 1}, serializer=name).get(timeout=WAIT_S), {"value": value, "named": 1})


@case()
def serializer_json(m: Any) -> None:
    _serializer(m, "json")


@case()
def serializer_yaml(m: Any) -> None:
    _serializer(m, "yaml")


@case()
def serializer_msgpack(m: Any) -> None:
    _serializer(m, "msgpack")


@case()
def serializer_pickle(m: Any) -> None:
    _serializer(m, "pickle")
    same(m.kind_of.apply_async(((1, 2),), serializer="pickle").get(timeout=WAIT_S), "tuple")


@case()
def compression(m: Any) -> None:
    value = "interop " * 2000
    for name in ("gzip", "zlib", "bzip2", "bzip", "lzma", "xz", "brotli", "zstd"):
        same(m.echo.apply_async((value,), compression=name).get(timeout=WAIT_S), value)


@case()
def compression_of_another_serializer(m: Any) -> None:
    value = ["interop"] * 2000
    same(m.echo.apply_async((value,), compression="zlib", serializer="msgpack").get(timeout=WAIT_S), value)


# ---- what follows a call


@case()
def link(m: Any) -> None:
    ids = [str(uuid.uuid4()) for _ in range(2)]
    m.add.apply_async((1, 2), link=m.add.s(10).set(task_id=ids[0]))
    same(m.app.AsyncResult(ids[0]).get(timeout=WAIT_S), 13)
    m.add.apply_async((1, 2), link=m.add.si(5, 5).set(task_id=ids[1]))
    same(m.app.AsyncResult(ids[1]).get(timeout=WAIT_S), 10)


@case()
def several_links(m: Any) -> None:
    ids = [str(uuid.uuid4()) for _ in range(2)]
    m.add.apply_async((1, 2), link=[m.add.s(10).set(task_id=ids[0]), m.add.s(20).set(task_id=ids[1])])
    same([m.app.AsyncResult(id).get(timeout=WAIT_S) for id in ids], [13, 23])


@case()
def link_error_as_message(m: Any) -> None:
    id = str(uuid.uuid4())
    failed = m.boom.apply_async(link_error=m.errback_as_message.s().set(task_id=id))
    same(m.app.AsyncResult(id).get(timeout=WAIT_S), failed.id)


@case()
def link_error_in_process(m: Any) -> None:
    failed = m.boom.apply_async(link_error=m.errback_in_process.s())
    key = f"errback:{failed.id}"
    same([m.journal.blpop([key], WAIT_S)[1] for _ in range(2)], ["ValueError('boom', 42)", "True"])


@case()
def chain(m: Any) -> None:
    result = (m.add.s(1, 2) | m.add.s(3) | m.add.s(4)).apply_async()
    same(result.get(timeout=WAIT_S), 10)
    same((result.parent.get(timeout=WAIT_S), result.parent.parent.get(timeout=WAIT_S)), (6, 3))


@case()
def chain_with_links(m: Any) -> None:
    id = str(uuid.uuid4())
    result = (m.add.s(1, 2) | m.add.s(3)).apply_async(link=m.add.s(100).set(task_id=id))
    same((result.get(timeout=WAIT_S), m.app.AsyncResult(id).get(timeout=WAIT_S)), (6, 106))


@case()
def chain_that_breaks(m: Any) -> None:
    result = (m.add.s(1, 2) | m.boom.si() | m.add.s(3) | m.add.s(4)).apply_async()
    with raising(ValueError):
        result.get(timeout=WAIT_S)
    until(lambda: [result.state, result.parent.state] == ["FAILURE", "FAILURE"], "the failure of what comes after")


@case()
def chain_that_is_rejected(m: Any) -> None:
    result = (m.refuse.si() | m.add.s(3)).apply_async()
    until(lambda: result.parent.state == "FAILURE", "the failure of the first")
    until(lambda: result.state == "FAILURE", "the failure of what comes after")


@case()
def chain_that_retries(m: Any) -> None:
    same((m.third_time.si() | m.add.s(40)).apply_async().get(timeout=WAIT_S), 42)


@case()
def group(m: Any) -> None:
    result = m.library.group(m.add.s(n, n) for n in range(5)).apply_async()
    same(result.get(timeout=WAIT_S), [0, 2, 4, 6, 8])
    same((len(result), result.completed_count(), result.successful()), (5, 5, True))


@case()
def group_at_the_end_of_a_chain(m: Any) -> None:
    result = (m.add.s(1, 2) | m.library.group(m.add.s(10), m.add.s(20))).apply_async()
    same(result.get(timeout=WAIT_S), [13, 23])


@case()
def group_that_fails(m: Any) -> None:
    result = m.library.group(m.add.s(1, 1), m.boom.s()).apply_async()
    with raising(ValueError):
        result.get(timeout=WAIT_S)
    same([each.state for each in result.results], ["SUCCESS", "FAILURE"])


@case()
def replaced(m: Any) -> None:
    same(m.replaced.delay(4).get(timeout=WAIT_S), 5)


@case()
def many(m: Any) -> None:
    results = [m.add.delay(n, 1) for n in range(100)]
    same([result.get(timeout=WAIT_S) for result in results], list(range(1, 101)))


# ---- not in the table: tests call these with arguments


def send(m: Any, task: str, args: list[Any], options: dict[str, Any]) -> str:
    """Publish, and return the id."""
    return str(m.app.tasks[task].apply_async(tuple(args), **options).id)


def call(m: Any, task: str, args: list[Any]) -> Any:
    """Publish, and wait for the value."""
    return m.app.tasks[task].apply_async(tuple(args)).get(timeout=WAIT_S)


def chain_of_protocol_1(m: Any) -> Any:
    """Publish a chain as nested callbacks, and wait for the value of its last task."""
    return (m.add.s(1, 2) | m.add.s(3) | m.add.s(4)).apply_async().get(timeout=WAIT_S, follow_parents=False)


def read(m: Any, id: str) -> dict[str, Any]:
    """Wait for a result that somebody else asked for."""
    result = m.app.AsyncResult(id)
    value = result.get(timeout=WAIT_S, propagate=False)
    known = {"state": result.state, "name": result.name, "traceback": result.traceback}
    if isinstance(value, BaseException):
        return {**known, "error": type(value).__name__, "args": list(value.args)}
    return {**known, "value": value}


def publish(m: Any, task: str, calls: list[list[Any]]) -> None:
    """Publish many calls of one task, and wait for none of them."""
    for args in calls:
        m.app.tasks[task].apply_async(tuple(args))
