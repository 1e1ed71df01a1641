"""Capture golden messages from a real Celery, into ``golden/*.json``.

Run it with the Python of an environment that has ``celery[redis]==5.7.0`` and the optional
serializers and compressions; it starts its own redis-server on a private port and stops it:

    /path/to/venv/bin/python tests/interop/capture_golden.py

The tests that read the files need no Celery. Host names and paths are scrubbed.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE / "golden"
WORKER = "w1@host"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def redis_server():
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: port_answers(port), 5)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(5)


def port_answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


def wait_for(condition, timeout_s):
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise TimeoutError(f"not within {timeout_s} s: {condition}")


def scrub(text):
    for name in {socket.gethostname(), socket.getfqdn()}:
        text = text.replace(name, "host")
    return text.replace(sys.prefix, "/venv").replace(str(HERE), "/app").replace(sys.base_prefix, "/python")


def scrub_json(raw):
    """Scrub a JSON document, and leave other people's source lines out of its tracebacks."""
    return json.dumps(without_foreign_frames(json.loads(scrub(raw.decode())))).encode()


def without_foreign_frames(value):
    if isinstance(value, list):
        return [without_foreign_frames(each) for each in value]
    if not isinstance(value, dict):
        return value
    plain = {key: without_foreign_frames(each) for key, each in value.items()}
    if isinstance(plain.get("traceback"), str):
        kept, ours = [], True
        for line in plain["traceback"].splitlines():
            if line.startswith('  File "'):
                ours = '"/app/' in line
            elif not line.startswith(" "):
                ours = True
            if ours:
                kept.append(line)
        plain["traceback"] = "\n".join(kept) + "\n"
    return plain


def record(name, what, envelope):
    """One entry of a golden file, from a Redis envelope."""
    properties = envelope["properties"]
    body = envelope["body"]
    raw = base64.b64decode(body) if properties.get("body_encoding") == "base64" else body.encode()
    if envelope["content-type"] == "application/json" and "compression" not in envelope["headers"]:
        raw = scrub_json(raw)
    plain = {key: properties[key] for key in properties if key not in ("body_encoding", "delivery_tag")}
    return {
        "name": name,
        "what": what,
        "content_type": envelope["content-type"],
        "content_encoding": envelope["content-encoding"],
        "headers": json.loads(scrub(json.dumps(envelope["headers"]))),
        "properties": json.loads(scrub(json.dumps(plain))),
        "body": base64.b64encode(raw).decode(),
    }


def write(name, entries):
    import celery
    import kombu

    OUT.mkdir(exist_ok=True)
    document = {"celery": celery.__version__, "kombu": kombu.__version__, "messages": entries}
    (OUT / f"{name}.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    print(f"{name}: {len(entries)}")


def calls(app_module):
    """Name, description and action of every task message to capture."""
    from celery import chain, chord, group

    m = app_module
    day = datetime.datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    extra = {
        "datetime": day,
        "naive": day.replace(tzinfo=None, microsecond=0),
        "date": day.date(),
        "time": day.time(),
        "decimal": decimal.Decimal("1.50"),
        "uuid": uuid.UUID(int=7),
        "bytes": b"abc",
        "base64": b"\xff\x00",
        "nan": [1.5, None, True, "é\u2028"],
    }
    yield "plain", "add(2, 2)", lambda: m.add.delay(2, 2)
    yield (
        "options",
        "most call options",
        lambda: m.add.apply_async(
            (2, 2),
            task_id="c7ec0000-0000-4000-8000-000000000001",
            eta=day,
            expires=day + datetime.timedelta(hours=1),
            priority=6,
            shadow="shadowed",
            time_limit=30,
            soft_time_limit=20,
            headers={"my": 1, "user": "u"},
            link=m.tsum.s(),
            link_error=m.errb.s(),
            ignore_result=True,
        ),
    )
    yield "countdown", "countdown and numeric expiry", lambda: m.add.apply_async((1, 1), countdown=60, expires=120)
    yield "naive-eta", "an ETA without offset", lambda: m.add.apply_async((1, 1), eta=day.replace(tzinfo=None))
    yield "kwargs", "nested arguments and unicode", lambda: m.echo.delay({"a": [1, {"b": "é"}]}, x="ü", y=None)
    yield "extra-types", "the tagged JSON types", lambda: m.echo.delay(extra)
    yield "long-repr", "arguments longer than their repr", lambda: m.echo.delay(["x" * 3000], k=list(range(2000)))
    yield "chain", "a | b | c", lambda: chain(m.add.s(1, 2), m.add.s(3), m.add.si(5, 6)).apply_async()
    yield "group", "three members", lambda: group(m.add.s(i, i) for i in range(3)).apply_async()
    yield "chord", "header of two and a body", lambda: chord([m.add.s(1, 1), m.add.s(2, 2)], m.tsum.s()).apply_async()
    yield (
        "chain-chord",
        "a chain with a group in the middle",
        lambda: chain(m.add.s(1, 1), group(m.add.s(1), m.add.s(2)), m.tsum.s()).apply_async(),
    )
    yield "link-group", "a group as callback", lambda: m.add.apply_async((1, 2), link=group(m.add.s(1), m.add.s(2)))
    yield "chunks", "chunks of a task", lambda: m.add.chunks([(1, 1), (2, 2), (3, 3)], 2).apply_async()
    yield "map", "map", lambda: m.tsum.map([[1], [2]]).apply_async()
    yield "queue", "another queue and routing key", lambda: m.add.apply_async((1, 1), queue="golden")
    for name in ("pickle", "yaml", "msgpack"):
        yield name, f"serializer {name}", lambda name=name: m.echo.apply_async(({"a": [1, "é"]},), serializer=name)
    for name in ("gzip", "bzip2", "lzma", "brotli", "zstd"):
        yield name, f"compression {name}", lambda name=name: m.add.apply_async((2, 2), compression=name)


def stamped(app_module):
    from celery.canvas import StampingVisitor

    class Stamp(StampingVisitor):
        def on_signature(self, sig, **headers):
            return {"mid": ["a", "b"], "header": "h", "stamped_headers": ["mid", "header"]}

    sig = app_module.add.si(1, 1) | app_module.add.si(2, 2)
    sig.stamp(visitor=Stamp())
    sig.apply_async()


def drain(client, queue):
    found = []
    for key in client.keys(f"{queue}*"):
        if client.type(key) == b"list":
            while (item := client.rpop(key)) is not None:
                found.append(json.loads(item))
    return found


def capture_tasks(app_module, client, skip=()):
    entries = []
    steps = [*calls(app_module), ("stamps", "stamps on a chain", lambda: stamped(app_module))]
    for name, what, act in steps:
        if name in skip:
            continue
        act()
        sent = drain(client, "golden")
        if not sent:
            raise RuntimeError(f"nothing was sent by {name}")
        entries += [record(f"{name}-{i}" if len(sent) > 1 else name, what, each) for i, each in enumerate(sent)]
    return entries


@contextlib.contextmanager
def worker(url, arguments=(), **config):
    environ = {**os.environ, "GOLDEN_BROKER": url, "GOLDEN_CONFIG": json.dumps(config), "C_FORCE_ROOT": "1"}
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "golden_app",
        "worker",
        "-n",
        WORKER,
        "-P",
        "solo",
        "-l",
        "warning",
    ]
    process = subprocess.Popen([*command, *arguments], env=environ, cwd=HERE)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


class Watch:
    """Listens to published messages and to replies, raw."""

    def __init__(self, client):
        self.events, self.requests, self.replies = [], [], []
        self._pubsub = client.pubsub()
        self._pubsub.psubscribe("/0.celeryev/*", "/0.celery.pidbox")
        self._monitor = client.monitor()
        self._monitor.__enter__()
        for target in (self._published, self._commands):
            threading.Thread(target=target, daemon=True).start()

    def _published(self):
        with contextlib.suppress(Exception):
            for message in self._pubsub.listen():
                if message["type"] == "pmessage":
                    kind = self.requests if b"pidbox" in message["channel"] else self.events
                    kind.append(json.loads(message["data"]))

    def _commands(self):
        with contextlib.suppress(Exception):
            for command in self._monitor.listen():
                words = command["command"].split(" ", 2)
                if words[0].upper() == "LPUSH" and words[1].endswith("reply.celery.pidbox"):
                    self.replies.append(json.loads(words[2]))

    def event_kinds(self):
        kinds = []
        for envelope in list(self.events):
            body = json.loads(base64.b64decode(envelope["body"]))
            kinds += [each["type"] for each in (body if isinstance(body, list) else [body])]
        return kinds


def body_types(envelope):
    body = json.loads(base64.b64decode(envelope["body"]))
    return "+".join(each["type"] for each in body) if isinstance(body, list) else body["type"]


def run_everything(m, watch):
    """Let a worker run one of each; returns name → task id."""
    ids = {}
    with contextlib.suppress(Exception):
        m.app.control.ping(timeout=0.1)
    wait_for(lambda: "worker-heartbeat" in watch.event_kinds(), 20)
    for name, call in {
        "success": lambda: m.add.delay(2, 2),
        "extra": lambda: m.echo.delay(b"\xff"),
        "failure": m.boom.delay,
        "unserialisable": m.boom_object.delay,
        "retry": m.again.delay,
        "reject": m.refuse.delay,
        "progress": m.progress.delay,
        "children": m.spawn.delay,
        "missing": lambda: m.app.send_task("no.such.task"),
        "expired": lambda: m.add.apply_async((1, 1), expires=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)),
    }.items():
        ids[name] = call().id
    member = (m.add.si(1, 1) | m.add.si(2, 2)).apply_async()
    ids["chained"] = member.id
    grouped = (m.group_of_two)()
    ids["grouped"] = grouped.results[0].id
    grouped.save()
    ids["saved-group"] = grouped.id
    chorded = m.chord_of_two()
    ids["chord-body"] = chorded.id
    revoked = m.add.apply_async((9, 9), countdown=3600)
    wait_for(
        lambda: any(revoked.id in json.dumps(base64.b64decode(e["body"]).decode()) for e in list(watch.events)), 10
    )
    m.app.control.revoke(revoked.id)
    ids["revoked"] = revoked.id
    chorded.get(timeout=20)
    wait_for(lambda: watch.event_kinds().count("task-failed") >= 4, 20)
    return ids


def ask(m):
    """Send one of each remote command that matters."""
    inspect = m.app.control.inspect(timeout=1.0)
    for command in (
        inspect.ping,
        inspect.stats,
        inspect.active,
        inspect.scheduled,
        inspect.active_queues,
        inspect.clock,
    ):
        command()
    m.app.control.rate_limit("golden_app.add", "10/m", reply=True, timeout=0.5)
    m.app.control.broadcast("no_such_command", reply=True, timeout=0.5)
    m.app.control.broadcast("ping", destination=[WORKER], reply=True, timeout=0.5)
    m.app.control.broadcast("ping", pattern="w*", matcher="glob", reply=True, timeout=0.5)
    m.app.control.broadcast("heartbeat")


def results(client, ids, label, serializer):
    entries = []
    for name, identity in ids.items():
        kind = "taskset" if name == "saved-group" else "task"
        data = client.get(f"celery-{kind}-meta-{identity}")
        if data is None:
            continue
        if serializer == "json" and not data.startswith(b"\0"):
            data = scrub_json(data)
        entries.append(
            {
                "name": f"{label}-{name}",
                "kind": kind,
                "serializer": serializer,
                "id": identity,
                "body": base64.b64encode(data).decode(),
            }
        )
    return entries


def capture_worker(m, client, url):
    from celery import chord, group

    m.group_of_two = lambda: group(m.add.s(1, 1), m.add.s(2, 2)).apply_async()
    m.chord_of_two = lambda: chord([m.add.s(1, 1), m.add.s(2, 2)], m.tsum.s()).apply_async()
    watch = Watch(client)
    with worker(url, ["-E"], worker_send_task_events=True, task_track_started=True):
        ids = run_everything(m, watch)
        ask(m)
        time.sleep(1)
    time.sleep(0.5)
    stored = results(client, ids, "plain", "json")
    retried = [record("retry-republished", "what a retry publishes", each) for each in drain(client, "golden-retry")]
    events = [record(f"{i:03d}", body_types(each), each) for i, each in enumerate(watch.events)]
    requests = [record(f"request-{i:02d}", "", each) for i, each in enumerate(watch.requests)]
    replies = [record(f"reply-{i:02d}", "", each) for i, each in enumerate(watch.replies)]
    return stored, retried, events, requests + replies


def capture_results(m, client, url, label, serializer="json", **config):
    """The results of a worker that stores them in another way."""
    with worker(url, result_serializer=serializer, **config):
        ids = {
            "success": m.add.delay(2, 2).id,
            "failure": m.boom.delay().id,
            "stamped": m.add.apply_async((1, 1), stamped_headers=["mid"], mid=["a"]).id,
        }
        wait_for(lambda: all(client.get(f"celery-task-meta-{each}") for each in ids.values()), 20)
    if config.get("result_compression"):
        # What is compressed cannot be scrubbed, and a traceback names paths.
        ids.pop("failure")
    return [
        each
        for each in results(client, ids, label, serializer)
        if not (serializer != "json" and "fail" in each["name"])
    ]


def main():
    import redis

    with redis_server() as url:
        os.environ["GOLDEN_BROKER"] = url
        sys.path.insert(0, str(HERE))
        import golden_app as m

        client = redis.Redis.from_url(url)
        second = capture_tasks(m, client)
        m.app.conf.task_protocol = 1
        m.app.amqp.__dict__.pop("create_task_message", None)
        m.app.amqp.__dict__.pop("_create_task_sender", None)
        first = capture_tasks(m, client, skip=("stamps", "chunks", "map"))
        m.app.conf.task_protocol = 2
        m.app.amqp.__dict__.pop("create_task_message", None)
        client.flushall()
        stored, retried, events, control = capture_worker(m, client, url)
        stored += capture_results(m, client, url, "extended", result_extended=True)
        stored += capture_results(m, client, url, "compressed", result_extended=True, result_compression="gzip")
        stored += capture_results(m, client, url, "zstd", result_compression="zstd")
        for name in ("pickle", "yaml", "msgpack"):
            stored += capture_results(m, client, url, name, serializer=name)
    write("tasks_v2", second + retried)
    write("tasks_v1", first)
    write("events", events)
    write("control", control)
    write("results", stored)


if __name__ == "__main__":
    main()
