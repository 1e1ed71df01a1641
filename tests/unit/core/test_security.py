"""``app.setup_security``: what it demands, what it signs, what it refuses and how that is counted."""

from __future__ import annotations

import base64
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.clock import ManualClock
from opsq.core.calls import build_message
from opsq.core.pools.base import Job
from opsq.core.request import Context
from opsq.core.worker.execute import Executor
from opsq.errors import ConfigError, UntrustedSignature, UsageError
from opsq.exceptions import SecurityError
from tests.certificates import Identity, make

Message = Any


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def alice(folder: Path) -> Identity:
    return make(folder, "alice")


@pytest.fixture(scope="module")
def bob(folder: Path) -> Identity:
    return make(folder, "bob")


@pytest.fixture(scope="module")
def eve(folder: Path) -> Identity:
    return make(folder, "eve", trusted=False)


@pytest.fixture
def apps() -> Iterator[Any]:
    made: list[Opsq] = []

    def signing(identity: Identity, *, clock: Any = None, given: dict[str, Any] | None = None, **more: Any) -> Opsq:
        app = Opsq("signing", set_as_current=False, clock=clock, broker="memory://", backend="memory://")
        app.conf.update(identity.settings(**more))
        app.setup_security(**(given or {}))
        app.task(name="add")(lambda x, y: x + y)
        made.append(app)
        return app

    yield signing
    for app in made:
        app.close()


def message(app: Opsq, *args: Any, **options: Any) -> Message:
    return build_message(app, "add", args, {}, options)[0]


def job(sent: Message, **changed: Any) -> Job:
    fields = {
        "key": 1, "id": sent.headers["id"], "task": "add", "headers": sent.headers, "body": sent.body,
        "content_type": sent.content_type, "content_encoding": sent.content_encoding,
        "properties": sent.properties, "delivery_info": {},
    }  # fmt: skip
    return Job(**{**fields, **changed})


def test_others_who_are_trusted_can_read_what_was_signed(apps: Any, alice: Identity, bob: Identity) -> None:
    sent = message(apps(alice), 2, 3)
    assert (sent.content_type, sent.content_encoding) == ("application/data", "utf-8")
    outcome = Executor(apps(bob), "w").run(job(sent))
    assert (outcome.state, outcome.result_repr) == ("SUCCESS", "5")


@pytest.mark.parametrize("compression", ["gzip", "bzip2"])
def test_signed_then_compressed(apps: Any, alice: Identity, bob: Identity, compression: str) -> None:
    sent = message(apps(alice), 2, 3, compression=compression)
    assert Executor(apps(bob), "w").run(job(sent)).result_repr == "5"


def tampered(body: bytes) -> bytes:
    plain = base64.b64decode(body)
    return base64.b64encode(plain.replace(b"[2", b"[9"))


def _ageing(apps: Any, identity: Identity) -> Opsq:
    """An app that started in time, and whose clock then passed the end of all certificates."""
    clock = ManualClock(time.time())
    app: Opsq = apps(identity, clock=clock)
    app.finalize()
    clock.advance(7200)
    return app


REFUSALS = {
    "the body was changed": (lambda apps, who: apps(who["alice"]), tampered, lambda apps, who: apps(who["bob"])),
    "is not in security_cert_store": (lambda apps, who: apps(who["eve"]), bytes, lambda apps, who: apps(who["bob"])),
    "another key or digest than sha512": (
        lambda apps, who: apps(who["alice"]),
        bytes,
        lambda apps, who: apps(who["bob"], security_digest="sha512"),
    ),
    "certificate expired on": (
        lambda apps, who: apps(who["alice"]),
        bytes,
        lambda apps, who: _ageing(apps, who["bob"]),
    ),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_what_cannot_be_trusted_does_not_run(
    apps: Any, alice: Identity, bob: Identity, eve: Identity, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    sender, on_its_way, receiver = REFUSALS[why]
    who = {"alice": alice, "bob": bob, "eve": eve}
    sent, app = message(sender(apps, who), 2, 3), receiver(apps, who)
    app.backend.store_custom(sent.headers["id"], "SUCCESS", 42, _request(sent), {})
    stored = app.backend.backend.get("task", sent.headers["id"])
    with caplog.at_level(logging.ERROR):
        outcome = Executor(app, "w").run(job(sent, body=on_its_way(sent.body)))
    assert (outcome.state, outcome.settle) == ("UNVERIFIED", "reject")
    assert why in str(caplog.records[-1].__dict__["reason"])
    # Its id may be anybody's: what is stored there stays.
    assert app.backend.backend.get("task", sent.headers["id"]) == stored is not None


def _request(sent: Message) -> Any:
    return Context(id=sent.headers["id"], task="add")


def test_unsigned_messages_are_not_accepted(apps: Any, alice: Identity, bob: Identity) -> None:
    receiver = apps(bob)
    sent = message(receiver, 2, 3, serializer="json")
    outcome = Executor(receiver, "w").run(job(sent))
    assert (outcome.state, outcome.settle) == ("MALFORMED", "reject")
    assert "'application/json' is not accepted" in str(outcome.exception_repr)


def test_results_are_signed_when_their_serializer_is_auth(apps: Any, alice: Identity, eve: Identity) -> None:
    app = apps(alice)
    app.backend.store_custom("id-1", "SUCCESS", {"sum": 5}, _request(message(app, 1, 1)), {})
    raw = app.backend.backend.get("task", "id-1")
    assert b"alice" in base64.b64decode(base64.b64decode(raw).split(b"\0\1")[0])
    assert app.backend.load("id-1").result == {"sum": 5}
    forged = apps(eve)
    forged.backend.store_custom("id-2", "SUCCESS", 1, _request(message(forged, 1, 1)), {})
    app.backend.backend.put("task", "id-2", forged.backend.backend.get("task", "id-2"), state="SUCCESS", ttl_s=None)
    assert app.backend.load("id-2").status == "PENDING"
    assert app.backend.unreadable == 1


def test_a_key_with_a_password(apps: Any, folder: Path) -> None:
    locked = make(folder, "locked", password="open sesame")
    app = apps(locked, security_key_password="open sesame")
    assert message(app, 1, 2).content_type == "application/data"
    assert "open sesame" not in app.conf.humanize() + repr(app.conf)
    for given in (None, "wrong"):
        with pytest.raises(ConfigError, match=r"password") as refused:
            apps(locked, given={"key_password": given}).finalize()
        assert "PRIVATE" not in str(refused.value)


def test_arguments_win_over_settings(apps: Any, alice: Identity, bob: Identity) -> None:
    app = apps(alice, given={"key": str(bob.key), "cert": str(bob.certificate), "digest": "sha384"})
    signer = base64.b64decode(base64.b64decode(message(app, 1, 2).body).split(b"\0\1")[0])
    assert b" bob " in signer or b"FR bob" in signer


def test_every_fault_is_told_at_once(apps: Any, alice: Identity) -> None:
    app = apps(alice, task_serializer="json", accept_content=["auth", "json"], security_key=None)
    with pytest.raises(ConfigError) as refused:
        app.finalize()
    told = str(refused.value)
    for part in ("task_serializer to be auth, got json", "accept_content to be auth alone", "security_key is not set"):
        assert part in told


def test_files_that_do_not_fit(apps: Any, folder: Path, alice: Identity, bob: Identity, tmp_path: Path) -> None:
    old = make(tmp_path, "old", ends_in_s=-60)
    curve = make(tmp_path, "curve", trusted=False, kind="ec")
    (tmp_path / "none.pem").write_text("no certificate")
    twice = tmp_path / "twice"
    twice.mkdir()
    for name in ("a", "b"):
        (twice / f"{name}.pem").write_bytes(alice.certificate.read_bytes())
    cases = {
        "does not belong to the certificate": {"security_key": str(bob.key)},
        "cannot be read: No such file": {"security_key": "/nowhere.key"},
        "must be an RSA key": {"security_key": str(curve.key)},
        "must hold an RSA key": {"security_certificate": str(curve.certificate)},
        "is no X.509 certificate": {"security_certificate": str(tmp_path / "none.pem")},
        "expired on": {"security_cert_store": old.store},
        "no file matches": {"security_cert_store": "/nowhere/*.pem"},
        "that another file holds": {"security_cert_store": str(twice)},
        "expected a digest such as sha256": {"security_digest": "rot13"},
    }
    for why, changed in cases.items():
        with pytest.raises(ConfigError, match=why):
            apps(alice, **changed).finalize()
    own_expired = {"security_key": str(old.key), "security_certificate": str(old.certificate)}
    with pytest.raises(ConfigError, match="expired on"):
        apps(alice, **own_expired).finalize()


def test_too_late(apps: Any, alice: Identity) -> None:
    app = apps(alice)
    app.finalize()
    with pytest.raises(UsageError, match="too late"):
        app.setup_security()


def test_auth_without_setup_security_says_what_to_do() -> None:
    app = Opsq("forgot", set_as_current=False, broker="memory://", task_serializer="auth", accept_content=["auth"])
    app.task(name="add")(lambda x, y: x + y)
    with pytest.raises(ConfigError, match=r"call app\.setup_security"):
        message(app, 1, 2)


def test_a_missing_library_is_one_sentence(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from opsq import Opsq\n"
        "try: Opsq('x').setup_security()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "print('cryptography.x509' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == [
        'ConfigError message signing needs the package cryptography, which is not installed; pip install "opsq[auth]"',
        "False",
    ]


def test_an_untrusted_signature_is_celerys_security_error() -> None:
    assert issubclass(UntrustedSignature, SecurityError)
