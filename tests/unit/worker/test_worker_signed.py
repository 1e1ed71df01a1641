"""A worker that takes signed messages only: what is forged is rejected, counted as such, and leaves no trace."""

from __future__ import annotations

import base64
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.core.certificates import load_signer
from opsq.core.pools.base import Outcome
from opsq.testing.harness import RunningWorker, running_worker, send_raw
from opsq.wire.auth import Envelope, pack
from tests.certificates import Identity, make

BODY = b'[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
OLD_BODY = b'{"task": "shop.add", "id": "id-1", "args": [2, 3], "kwargs": {}}'


@pytest.fixture
def trusted(tmp_path: Path) -> Identity:
    return make(tmp_path, "shop")


@pytest.fixture
def signing(make_app: Any, trusted: Identity) -> Opsq:
    app: Opsq = make_app(**trusted.settings())
    app.setup_security()
    app.task(name="shop.add")(lambda x, y: x + y)
    return app


def signed(who: Identity, body: bytes, sign: bytes | None = None) -> bytes:
    signer = load_signer(str(who.key), None, str(who.certificate), "sha256", time.time())
    return pack(Envelope(signer.id, signer.sign(sign or body), "application/json", "utf-8", body))


def still_works(worker: RunningWorker, app: Opsq) -> None:
    result = app.send_task("shop.add", (20, 1))
    assert result.get(timeout=30) == 21
    worker.wait("settled", result.id)


@pytest.mark.parametrize("why", ["tampered", "stranger"])
def test_forged_ones_are_rejected_and_counted(
    signing: Opsq, trusted: Identity, tmp_path: Path, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    body = signed(trusted, BODY, sign=BODY + b" ") if why == "tampered" else signed(_stranger(tmp_path), BODY)
    with caplog.at_level(logging.ERROR), running_worker(signing, pool="threads", concurrency=1) as worker:
        send_raw(signing, body, {"task": "shop.add", "id": "id-1"}, "application/data")
        outcome = worker.wait("settled", "id-1").detail
        assert isinstance(outcome, Outcome)
        assert (outcome.state, outcome.settle) == ("UNVERIFIED", "reject")
        still_works(worker, signing)
        assert worker.counters == {"UNVERIFIED": 1, "SUCCESS": 1}
    assert signing.AsyncResult("id-1").state == "PENDING"
    (told,) = [record for record in caplog.records if "cannot be run" in record.message]
    assert told.__dict__["task_id"] == "id-1"


def _stranger(folder: Path) -> Identity:
    return make(folder, "stranger", trusted=False)


def test_those_of_protocol_one_are_verified_at_intake(signing: Opsq, trusted: Identity, tmp_path: Path) -> None:
    with running_worker(signing, pool="threads", concurrency=1) as worker:
        send_raw(signing, signed(_stranger(tmp_path), OLD_BODY), {}, "application/data")
        send_raw(signing, base64.b64encode(b"nonsense"), {}, "application/data")
        send_raw(signing, BODY, {"task": "shop.add", "id": "id-2"}, "application/json")
        still_works(worker, signing)
        refused = {name: worker.counters[name] for name in ("unverified", "malformed", "untrusted")}
        assert refused == {"unverified": 1, "malformed": 1, "untrusted": 1}
        send_raw(signing, signed(trusted, OLD_BODY), {}, "application/data")
        assert signing.AsyncResult("id-1").get(timeout=30) == 5
