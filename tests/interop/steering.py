"""Steer one worker by remote control, under either library, and print what it answered as one JSON object.

Words: the node name, and ``stop`` when it shall be shut down at the end. Uses names that both libraries have.
"""

from __future__ import annotations

import json
import sys
import time
import uuid

import fleet_app

PATIENCE_S = 15


def until(condition, what):
    """Wait until ``condition`` gives something true, and return that."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > end:
            raise SystemExit(f"never came: {what}")
        time.sleep(0.02)
    return found


def main(node, *words):
    """Ask, order, and print."""
    control = fleet_app.app.control
    inspect = control.inspect(destination=[node], timeout=5)
    order = {"destination": [node], "reply": True, "timeout": 5}
    until(inspect.ping, "ping")
    said = {}
    gate = f"gate-{uuid.uuid4()}"  # one that is ended before it passes leaves the gate open
    running = fleet_app.in_steps.delay(gate)
    until(lambda: running.id in [each["id"] for each in inspect.active()[node]], "the running task")
    later = fleet_app.nap.apply_async((1,), countdown=500)
    until(lambda: later.id in [each["request"]["id"] for each in inspect.scheduled()[node]], "the held task")
    questions = ("ping", "clock", "report", "conf", "stats", "active", "reserved", "scheduled", "revoked")
    for question in (*questions, "registered", "active_queues", "memsample"):
        said[question] = getattr(inspect, question)()[node]
    said["query_task"] = inspect.query_task(running.id, later.id)[node]
    said["hello"] = inspect.hello("somebody@there", ["revoked-there"])[node]
    orders = {
        "rate_limit": control.rate_limit("fleet_app.add", "10/m", **order),
        "bad_rate": control.rate_limit("fleet_app.add", "x/m", **order),
        "time_limit": control.time_limit("fleet_app.add", soft=50, hard=60, **order),
        "unknown_task": control.rate_limit("fleet_app.none", "10/m", **order),
        "pool_grow": control.pool_grow(1, **order),
        "add_consumer": control.add_consumer(f"{node}-more", **order),
        "cancel_consumer": control.cancel_consumer(f"{node}-more", **order),
        "enable_events": control.enable_events(**order),
        "disable_events": control.disable_events(**order),
        "heartbeat": control.heartbeat(**order),
        "pool_restart": control.pool_restart(**order),
        "autoscale": control.autoscale(3, 1, **order),
        "unknown": control.broadcast("no_such_command", **order),
        "revoke": control.revoke(later.id, **order),
        "terminate": control.revoke(running.id, terminate=True, signal="KILL", **order),
    }
    said.update({name: answers[0][node] for name, answers in orders.items()})
    said["registered_after"] = inspect.registered()[node]
    said["revoked_after"] = inspect.revoked()[node]
    until(lambda: later.state == "REVOKED", "the state of the revoked task")
    said["terminated_state"] = running.state if "error" in said["terminate"] else until(ended(running), "its end")
    said["ids"] = [running.id, later.id]
    said["gate"] = gate
    if "error" in said["terminate"]:
        fleet_app.journal.rpush(gate, "go on")
    if "stop" in words:
        control.shutdown(destination=[node])
    print(json.dumps(said))


def ended(result):
    """The state of a task once it has ended."""
    return lambda: result.state if result.ready() else None


if __name__ == "__main__":
    main(*sys.argv[1:])
