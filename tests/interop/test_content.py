"""What must be agreed on before two sides understand each other: serializers, compression, protocol 1."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from redis import Redis

from tests.interop import cases, peers
from tests.interop.peers import FULL, POOLS, Place

BOTH = (("celery", "opsq"), ("opsq", "celery"))
ways = pytest.mark.parametrize(("sender", "runner"), BOTH, ids=["celery-to-opsq", "opsq-to-celery"])
#: The quick suite leaves out the combinations that say the least about opsq.
RESULTS: dict[str, dict[str, Any]] = {
    "msgpack-zlib": {"result_serializer": "msgpack", "result_compression": "zlib"},
    **({"yaml": {"result_serializer": "yaml"}} if FULL else {}),
    **({"pickle-bzip2": {"result_serializer": "pickle", "result_compression": "bzip2"}} if FULL else {}),
    **({"json-lzma": {"result_compression": "lzma"}} if FULL else {}),
    **({"json-zstd": {"result_compression": "zstd"}} if FULL else {}),
}


def pool_of(library: str) -> str:
    """The pool that starts fastest and shares its process with nobody."""
    return "solo" if library == "celery" else "threads"


@pytest.mark.parametrize("form", RESULTS)
@ways
def test_results_in_other_forms(place: Place, sender: str, runner: str, form: str) -> None:
    settings = {**peers.ACCEPT_ALL, **RESULTS[form]}
    with (
        peers.running_client(place, sender, settings=settings) as client,
        peers.running_worker(place, runner, pool_of(runner), settings=settings),
    ):
        for case in ("success", "failure", "failure_of_our_own_class", "extended_result", "unknown_task"):
            client.run(case)
        task_id = client.run("send", "fleet_app.echo", ["stored " * 500], {})
        assert client.run("read", task_id)["value"] == "stored " * 500
    with contextlib.closing(Redis.from_url(place.results)) as store:
        raw = store.get(f"celery-task-meta-{task_id}")
    assert isinstance(raw, bytes)
    assert raw.startswith(b"\0celery-compressed\0") == ("result_compression" in settings)


@ways
def test_pickle_is_refused_by_default(place: Place, sender: str, runner: str) -> None:
    with (
        peers.running_client(place, sender, settings={}) as client,
        peers.running_worker(place, runner, pool_of(runner), settings={}) as worker,
    ):
        refused = client.run("send", "fleet_app.add", [1, 2], {"serializer": "pickle"})
        assert client.run("call", "fleet_app.add", [20, 3]) == 23
        said = "untrusted" if runner == "opsq" else "Refusing to deserialize"
        cases.until(lambda: said in worker.text(), "the refusal in the log")
    with contextlib.closing(Redis.from_url(place.results)) as store:
        assert not store.exists(f"celery-task-meta-{refused}")


@pytest.mark.parametrize("pool", POOLS)
def test_celery_publishes_protocol_1(place: Place, pool: str) -> None:
    with (
        peers.running_client(place, "celery", settings={**peers.ACCEPT_ALL, "task_protocol": 1}) as client,
        peers.running_worker(place, "opsq", pool) as worker,
    ):
        for case in (
            *("success", "failure", "countdown", "eta_in_another_zone", "expired", "not_yet_expired", "any_text_as_id"),
            *("retry_until_it_works", "retry_in_vain", "retry_by_itself", "link", "several_links", "group"),
            *("link_error_as_message", "link_error_in_process", "serializer_pickle", "serializer_msgpack"),
            *("compression_of_another_serializer", "custom_state", "rejected", "replaced"),
        ):
            client.run(case)
        # A chain is nested callbacks there: the client knows the last id, and nothing else is promised.
        assert client.run("chain_of_protocol_1") == 10
        assert client.run("call", "fleet_app.add", [1, 2]) == 3
        assert worker.process.poll() is None


@pytest.mark.parametrize("pool", POOLS)
def test_results_are_everybodys(place: Place, pool: str) -> None:
    """Asked for by either, they are read by the other, and say the same to both."""
    with (
        peers.running_client(place, "opsq") as ours,
        peers.running_client(place, "celery") as theirs,
        peers.running_worker(place, "opsq", pool),
    ):
        for asks, reads in ((ours, theirs), (theirs, ours)):
            good = asks.run("send", "fleet_app.echo", [{"a": [1, "é"]}], {})
            bad = asks.run("send", "fleet_app.out_of_stock", [], {})
            late = asks.run("send", "fleet_app.add", [1, 1], {"countdown": 0.6, "expires": 0.2})
            assert reads.run("read", good)["value"] == {"a": [1, "é"]}
            failed = reads.run("read", bad)
            assert (failed["state"], failed["error"], failed["args"]) == (
                "FAILURE",
                "StockError",
                ["out of stock", {"sku": 7}],
            )
            assert "out_of_stock" in failed["traceback"]
            revoked = reads.run("read", late)
            assert (revoked["state"], revoked["error"]) == ("REVOKED", "TaskRevokedError")
            for task_id in (good, bad, late):
                assert json.dumps(asks.run("read", task_id)) == json.dumps(reads.run("read", task_id))


@ways
def test_priorities_order_what_waits(place: Place, sender: str, runner: str) -> None:
    """On Redis 0 comes first, in steps of three; on RabbitMQ the highest does."""
    redis = place.broker.startswith("redis")
    settings = {**peers.ACCEPT_ALL, "worker_prefetch_multiplier": 1, "task_acks_late": True}
    settings |= {} if redis else {"task_queue_max_priority": 9}
    with peers.running_client(place, sender, settings=settings) as client:
        sent = [client.run("send", "fleet_app.when", [], {"priority": priority}) for priority in (9, 3, 0, 6)]
        with peers.running_worker(place, runner, pool_of(runner), slots=1, settings=settings):
            ran_at = [client.run("read", task_id)["value"] for task_id in sent]
    order = [sent.index(task_id) for _, task_id in sorted(zip(ran_at, sent, strict=True))]
    assert order == ([2, 1, 3, 0] if redis else [0, 3, 1, 2])
