"""Evidence in, diagnosis out: each cause by itself, which one wins, and that what is not known is never a no."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from opsq.broker.standing import PAUSED_QUEUE, PAUSED_TASK, REVOKED, StandingOrder
from opsq.events.diagnosis.case import BROKER, ENDED, NOWHERE, SLOT, WORKER, Case, Line, Node, Orders, Request, Usual
from opsq.events.diagnosis.causes import CAUSES
from opsq.events.diagnosis.diagnose import diagnose
from opsq.events.diagnosis.explained import explained
from opsq.events.diagnosis.records import NO, UNKNOWN, YES, Diagnosis, plain
from opsq.events.diagnosis.remedies import REMEDIES
from opsq.events.diagnosis.slower import Slower
from opsq.events.records import TaskDetail, TaskItem, Try, time_key

NOW = 1_790_000_000.0
TYPE, OTHER = "shop.export", "shop.mail"


def task(state: str = "PENDING", *, age_s: float = 60.0, tries: tuple[Try, ...] = (), **facts: Any) -> TaskDetail:
    known = {"type": TYPE, "queue": "q", **facts}
    item = TaskItem(key=time_key(NOW - age_s), id="mine", state=state, published_at=NOW - age_s, **known)
    return TaskDetail(item=item, tries=tries)


def node(name: str = "opsq@w1", **facts: Any) -> Node:
    known: dict[str, Any] = {
        "status": "online", "last_seen_at": NOW - 1, "consumes": True, "slots": 2, "busy": 0, "pool": "prefork",
        "ours": True, "answered": True, "running": (), "registered": {TYPE: None, OTHER: None},
    }  # fmt: skip
    return Node(name=name, **{**known, **facts})


def case(*nodes: Node, of: TaskDetail | None = None, where: str = BROKER, **facts: Any) -> Case:
    known: dict[str, Any] = {
        "now": NOW, "task": of or task(), "nodes": nodes, "line": Line(name="q", ready=5, before=2, mix={TYPE: 5}),
        "holder": nodes[0] if nodes and where in (WORKER, SLOT) else None, "driver": "redis",
        "orders": Orders(known=True),
        "usual": {TYPE: Usual(10.0, 9.0, 20.0), OTHER: Usual(1.0, 1.0, 2.0)},
    }  # fmt: skip
    return Case(where=where, **{**known, **facts})


def busy(count: int, *, for_s: float = 4.0, type: str = TYPE) -> tuple[Request, ...]:
    return tuple(Request(f"other{n}", type, NOW - for_s) for n in range(count))


def answers(found: Diagnosis) -> dict[str, str]:
    return {verdict.cause: verdict.found.answer for verdict in found.checks}


def test_no_consumer_names_who_is_there_and_who_was() -> None:
    found = diagnose(
        case(node("w9", consumes=False), node("w8", status="lost", last_seen_at=NOW - 120, answered=False))
    )
    assert (found.cause, plain(found.sentence)) == ("no-consumer", "No worker takes tasks from q.")
    assert [proof.heading for proof in found.proofs[:2]] == ["1 worker is up, none takes from it", "w8 took from it"]
    commands = [remedy.command for remedy in found.remedies]
    assert "opsq worker -A your_app -Q q -c 4" in commands
    assert "opsq control -d w9 add_consumer q" in commands


def test_a_consumer_that_only_the_broker_counts_is_a_consumer() -> None:
    assert answers(diagnose(case(line=Line(name="q", consumers=1))))["no-consumer"] == NO


def test_all_slots_busy_says_by_what_and_since_when() -> None:
    both = node(running=busy(2, for_s=31.0))
    found = diagnose(case(both))
    assert (
        plain(found.sentence)
        == "All 2 slots of q are busy, all with shop.export, 2 of them longer than 95 % of its runs."
    )
    assert len(found.proofs[0].rows) == 2
    slow = Slower(type=TYPE, before_s=2.7, after_s=24.6, usual_s=4.0, since_at=NOW - 960, runs=50, deploy="v412")
    told = diagnose(case(both, slower=slow))
    assert (
        plain(told.sentence)
        == "All 2 slots of q are busy, and shop.export holds a slot 9 times as long since deploy v412."
    )
    assert told.proofs[1].history == TYPE


def test_a_free_slot_is_no_cause() -> None:
    found = diagnose(case(node(running=busy(1)), of=task(age_s=0.5)))
    assert answers(found)["slots-busy"] == NO
    assert (found.cause, found.waits) == ("", False)
    assert plain(found.sentence) == "Nothing holds it: 1 slot of q is free, so it should start at once."


def test_prefetched_names_what_is_before_it_and_who_idles() -> None:
    holder = node(slots=1, running=busy(1, type=OTHER), reserved=(Request("first", TYPE), Request("mine", TYPE)))
    found = diagnose(case(holder, node("opsq@w2"), of=task("RECEIVED", worker="opsq@w1"), where=WORKER))
    assert found.cause == "prefetched"
    assert (
        plain(found.sentence) == "Worker w1 has taken it and holds it behind shop.mail other0 for 4 s in its only slot."
    )
    assert "2nd of 2 it holds ready. Meanwhile w2 has 2 free slots." in plain(found.lead)
    assert found.forecast is not None
    assert found.forecast.place == 2


def test_held_for_its_eta_and_for_its_next_try() -> None:
    holder = node(waiting=(Request("mine", TYPE, eta_at=NOW + 90),))
    found = diagnose(case(holder, of=task("RECEIVED"), where=WORKER, eta_at=NOW + 90))
    assert found.cause == "eta"
    assert plain(found.sentence).startswith("It is held for its ETA by w1: it starts in 1 min 30 s")
    again = diagnose(case(holder, of=task("RETRY", retries=1), where=WORKER, eta_at=NOW + 90))
    assert "for its next try" in plain(again.sentence)
    assert answers(diagnose(case(eta_at=NOW - 1)))["eta"] == NO


def test_rate_limited_says_limit_place_and_when() -> None:
    waiting = (Request("a", TYPE), Request("b", OTHER), Request("mine", TYPE))
    holder = node(waiting=waiting, registered={TYPE: "6/m"})
    found = diagnose(case(holder, of=task("RECEIVED"), where=WORKER))
    assert found.cause == "rate-limit"
    assert "limited to 6/m on w1" in plain(found.sentence)
    assert plain(found.lead) == "2nd of 2 in line for this rate. It starts in about 20 s."
    assert [remedy.command.rpartition("rate_limit ")[2] for remedy in found.remedies] == [
        "shop.export 0 --for 1h", "shop.export 12/m --for 1h",
    ]  # fmt: skip


def test_a_celery_worker_lists_nowhere_what_waits_for_its_rate() -> None:
    tries = (Try(number=1, state="RECEIVED", delivered_at=NOW - 30),)
    holder = node(ours=False, reserved=(), waiting=(), registered={TYPE: "6/m"})
    assert diagnose(case(holder, of=task("RECEIVED", tries=tries), where=WORKER)).cause == "rate-limit"
    ours = diagnose(case(node(reserved=(), waiting=(), registered={TYPE: "6/m"}), of=task("RECEIVED"), where=WORKER))
    assert ours.cause != "rate-limit"


def test_revoked_by_the_book_by_a_worker_or_expired() -> None:
    order = StandingOrder(REVOKED, "mine", until=NOW + 3600)
    kept = diagnose(case(node(), orders=Orders(known=True, revoked=order)))
    assert kept.cause == "revoked"
    assert "the broker keeps the order" in kept.checks[0].found.text
    assert diagnose(case(node(revoked=True), orders=Orders(known=False))).cause == "revoked"
    assert "expired" in plain(diagnose(case(node(), expires_at=NOW - 5)).sentence)
    assert answers(diagnose(case(orders=Orders(known=False))))["revoked"] == UNKNOWN
    assert answers(diagnose(case(node(revoked=False), orders=Orders(known=False))))["revoked"] == NO


def test_a_name_that_no_worker_knows() -> None:
    found = diagnose(case(node(registered={OTHER: None})))
    assert found.cause == "unknown-name"
    assert "No worker of q knows a task named shop.export" in plain(found.sentence)
    some = diagnose(case(node(registered={OTHER: None}), node("opsq@w2")))
    verdict = next(each for each in some.checks if each.cause == "unknown-name")
    assert (verdict.found.answer, verdict.found.text) == (NO, "no, but w1 would refuse it")
    taken = diagnose(
        case(node(), of=task("FAILURE", exception="NotRegistered('shop.export')", worker="opsq@w1"), where=ENDED)
    )
    assert (taken.cause, taken.waits) == ("unknown-name", True)
    assert any("quarantine release mine" in remedy.command for remedy in taken.remedies)


@pytest.mark.parametrize(
    ("facts", "answer"),
    [
        ({"status": "lost", "last_seen_at": NOW - 90, "answered": False}, YES),
        ({"status": "offline", "last_seen_at": NOW - 9, "answered": None}, YES),
        ({"status": "late", "last_seen_at": NOW - 8, "answered": False}, YES),
        ({"status": "late", "last_seen_at": NOW - 8, "answered": None}, UNKNOWN),
        ({"status": "online", "last_seen_at": NOW - 2, "answered": False}, UNKNOWN),
        ({"status": "online", "answered": True}, NO),
        ({"status": "lost", "answered": True}, NO),
        ({"status": "lost", "answered": False, "pool": "solo", "ours": False}, UNKNOWN),
        ({"status": "online", "answered": True, "replaced_at": NOW - 5}, YES),
    ],
)
def test_its_worker_died(facts: dict[str, Any], answer: str) -> None:
    tries = (Try(number=1, state="STARTED", started_at=NOW - 30),)
    found = diagnose(case(node(**facts), of=task("STARTED", worker="opsq@w1", tries=tries), where=SLOT))
    assert answers(found)["worker-died"] == answer
    assert (found.cause == "worker-died") == (answer == YES)


@pytest.mark.parametrize(
    ("driver", "ours", "words"),
    [
        ("redis", True, "when Redis misses its connection"),
        ("sqlite", True, "gone from this host"),
        ("amqp", True, "as soon as the worker's connection ends"),
        ("redis", False, "visibility time-out, 1 h by default"),
    ],
)
def test_what_happens_after_a_death_is_told_by_broker(driver: str, ours: bool, words: str) -> None:
    gone = node(status="late", last_seen_at=NOW - 8, answered=False, ours=ours)
    found = diagnose(case(gone, of=task("RECEIVED", worker="opsq@w1"), where=WORKER, driver=driver))
    assert words in plain(found.lead)
    assert "No other worker takes from its queue" in plain(found.lead)
    other = diagnose(case(gone, node("opsq@w2"), of=task("RECEIVED"), where=WORKER, driver=driver))
    assert "w2 takes from the queue, too" in plain(other.lead)
    assert not other.remedies


def test_paused_queue_and_type_go_before_no_consumer() -> None:
    queue = Orders(known=True, queue_paused=StandingOrder(PAUSED_QUEUE, "q", until=NOW + 300))
    found = diagnose(case(node(consumes=False), orders=queue))
    assert plain(found.sentence) == "Queue q is paused for 5 min more: no worker takes from it."
    assert found.remedies[0].command == "opsq control resume queue=q"
    held = node(waiting=(Request("mine", TYPE),))
    by_type = Orders(known=True, type_paused=StandingOrder(PAUSED_TASK, TYPE))
    assert diagnose(case(held, of=task("RECEIVED"), where=WORKER, orders=by_type)).cause == "paused"
    heard = diagnose(case(node(consumes=False, paused=("queue q",)), orders=Orders(known=False)))
    assert heard.cause == "paused"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            {"state": "SUCCESS", "worker": "opsq@w1", "runtime_s": 2.0, "finished_at": NOW - 60},
            "It ran: it succeeded on w1 1 min ago",
        ),
        ({"state": "FAILURE", "exception": "KeyError('anna')"}, "It ran: it failed with KeyError."),
        ({"state": "REVOKED"}, "It was revoked before it ran, and was dropped."),
        ({"state": "REVOKED", "started_at": NOW - 3}, "It was terminated while it ran."),
        ({"state": "REJECTED"}, "It was rejected"),
        ({"state": "IGNORED"}, "It ran, and was told to be ignored"),
    ],
)
def test_what_ended_is_answered_plainly(facts: dict[str, Any], words: str) -> None:
    found = diagnose(case(of=task(**facts), where=ENDED))
    assert words in plain(found.sentence)
    assert not found.waits
    assert not found.remedies


def test_what_runs_is_told_against_what_is_usual() -> None:
    running = node(running=(Request("mine", TYPE, NOW - 12),))
    found = diagnose(case(running, of=task("STARTED", worker="opsq@w1"), where=SLOT))
    assert plain(found.sentence) == "It runs on w1, for 12 s; usually 9 s, 95 % end within 20 s."
    late = node(running=(Request("mine", TYPE, NOW - 120),))
    assert "longer than it should" in plain(diagnose(case(late, of=task("STARTED"), where=SLOT)).sentence)


def test_nothing_asked_is_unknown_and_never_no() -> None:
    blind = Case(
        now=NOW, task=task(queue=None), line=None, nodes=(), where=BROKER, lacks=("the workers were not asked",)
    )
    found = diagnose(blind)
    assert plain(found.sentence) == "Why it waits is not known."
    assert found.waits
    unsure = {cause for cause, answer in answers(found).items() if answer == UNKNOWN}
    assert unsure >= {"revoked", "unknown-name", "rate-limit", "no-consumer", "slots-busy", "paused"}


@pytest.mark.parametrize(("state", "where"), [("STARTED", SLOT), ("RECEIVED", WORKER)])
def test_a_worker_that_has_it_no_longer_is_believed(state: str, where: str) -> None:
    tries = (Try(number=1, state=state, delivered_at=NOW - 30),)
    holder = node(reserved=(), waiting=())
    found = diagnose(case(holder, of=task(state, worker="opsq@w1", tries=tries), where=where))
    assert plain(found.sentence) == "By its events w1 has it, but it answers that it has it no longer."


def test_a_task_that_is_nowhere_is_said_to_be() -> None:
    found = diagnose(case(node(), line=Line(name="q", ready=0, before=0)))
    assert plain(found.sentence).startswith("Where it is, is not known: q is empty, and no worker has it.")
    stored = diagnose(case(node(), line=Line(name="q", ready=0), stored="SUCCESS"))
    assert plain(stored.sentence) == "It has ended: the result store says SUCCESS, though no event told so."


def test_a_queue_is_explained_by_the_causes_that_hold_queues() -> None:
    full = Case(now=NOW, task=None, line=Line(name="q", ready=3), nodes=(node(running=busy(2)),), where=BROKER,
                orders=Orders(known=True))  # fmt: skip
    found = diagnose(full)
    assert (found.cause, len(found.checks)) == ("slots-busy", 3)
    calm = msgspec.structs.replace(full, nodes=(node(),), line=Line(name="q", ready=0))
    assert plain(diagnose(calm).sentence) == "Nothing waits in q."
    assert not diagnose(calm).waits


def test_every_cause_is_checked_wherever_the_task_is() -> None:
    for where in (BROKER, WORKER, SLOT, ENDED, NOWHERE):
        for nodes in ((), (node(),), (Node(name="w?"),)):
            found = diagnose(case(*nodes, of=task("RECEIVED"), where=where))
            assert len(found.checks) == len(CAUSES)
            assert found.sentence
            msgspec.json.encode(explained(found))


def test_every_cause_stands_in_the_manual() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "why.md").read_text()
    for cause in CAUSES:
        assert f"| `{cause.name}` | {cause.title} | {cause.doc} |" in manual, cause.name


def test_every_cause_has_remedies() -> None:
    assert set(REMEDIES) == {cause.name for cause in CAUSES}
