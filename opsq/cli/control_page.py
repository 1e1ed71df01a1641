"""``docs/control.md``, written from the table of remote commands."""

from __future__ import annotations

from collections.abc import Iterable

from opsq.control.commands import COMMANDS, Argument, Command

HEAD = '''\
# Remote control

<!-- Written by `make docs` from `opsq/control/commands.py`; change it there. -->

Workers answer commands over the broker, on Celery's exchange `celery.pidbox`: opsq steers Celery workers, and Celery's
programs steer opsq workers. A worker answers on a connection and a thread of its own, also
while all its slots are busy.

```
opsq status -b URL                          who is there
opsq inspect active -b URL                  ask
opsq control rate_limit shop.mail 10/m      have it done
```

`-d` names workers, `-t` says how long to wait, `--json` prints `{node: answer}`. Exit code 69: nobody answered and
nothing was kept in the broker, or not everybody who was named answered; 1: somebody answered with an error. In Python:
`app.control.rate_limit("shop.mail", "10/m", reply=True)`, `app.control.inspect().active()`.

What nobody can do is answered as `{"error": text}`: an unknown command, arguments that do not fit, a time limit on a
pool that cannot stop a running task.

## For a while

`--for 2h` (in Python `for_s=7200`) undoes a change by itself: `opsq control rate_limit shop.mail 10/m --for 2h`. What
was before the first of several such changes comes back; the same order without `--for` makes it last. `opsq inspect
overrides` lists them. They belong to the worker's process: one that is started anew begins with what is configured.
Celery's workers do not know `--for` and never undo the change; the command line says so for each.

## What holds for workers that are not there

A revoked task stays revoked when no worker was online to hear of it, and after all workers were replaced; so do
paused queues and task types. The order is written into the broker before the workers are told:

| broker | where |
|---|---|
| SQLite | table `standing_order` of the broker's file |
| Redis | sorted set `opsq:standing`, with the key prefix |
| RabbitMQ | durable queue `opsq.standing`; readers take turns |
| PostgreSQL, MariaDB, MySQL | table `kombu_queue_standing` |
| MongoDB | collection `opsq.standing` |
| SQS | nowhere, and no worker hears commands there: `opsq control` refuses, in one sentence |
| others | nowhere: it holds for the workers that hear it, and `opsq control` says so |

A worker reads it before it takes the first message of a connection, and again when it hears commands again after a
silence; a message is checked against memory only. Revocations are kept for `worker_revoke_expires`, or for `--for`;
pauses until `resume`, or for `--for`. Orders for some workers only (`-d`) are not kept. An opsq worker keeps also what
Celery's programs and Flower revoke. Celery's workers do not read it. Beside it, `worker_state_db` (`--statedb`) keeps
revocations in a file of the worker, and `worker_mingle` asks the other workers, both as Celery does.

A revoked task that waits in a worker is taken back at once; it is stored as REVOKED. A changed rate holds for what
waits, too; a changed time limit for what has not been given to the pool. A paused queue is not taken from; a paused
task type is held back, unacknowledged, up to 1,000 of them beside the prefetch, after which they crowd out others of
the same queue. What a slot has been given already is worked off in both cases.

Whatever was changed is seen in the event `worker-command`, and in the next heartbeat: `slots`, `queues`, `paused`.

## Commands of your own

```python
@app.control_command(args=[("n", int)])
def forget_cache(state, n=1):
    """Drop the n oldest entries of the cache."""
    return {"ok": f"{state.hostname}: dropped {n}"}
```

`opsq control -A shop forget_cache 3`; `--help` with `-A` lists it. `inspect_command` for those that only tell;
`opsq.worker.control` has both as Celery's module does, for every app of the process.
'''


_ROLES = {"viewer": "viewers", "operator": "operators", "admin": "administrators"}


def control_page() -> str:
    """Return ``docs/control.md``: every remote command with its arguments and reply."""
    parts = [HEAD]
    for effect, title in (("read", "Questions: `opsq inspect`"), ("write", "Orders: `opsq control`")):
        parts.append(f"## {title}\n")
        parts += [_section(each) for each in COMMANDS.values() if each.effect == effect]
    return "\n".join(parts)


def _section(command: Command) -> str:
    also = f" Also called {', '.join(f'`{alias}`' for alias in command.aliases)}." if command.aliases else ""
    hidden = " For programs; not listed." if command.hidden else ""
    ours = " Of opsq's workers only." if command.origin == "opsq" else ""
    kept = " Kept in the broker." if command.standing else ""
    said = f"{command.doc}{also}{hidden}{ours}{kept} For {_ROLES[command.role]}. Reply: {command.reply}.\n"
    lines = [f"### `{command.name}`\n", said]
    if command.arguments:
        lines.append(_table(command.arguments))
    return "\n".join(lines)


def _table(arguments: Iterable[Argument]) -> str:
    rows = ["| argument | kind | default | meaning |", "|---|---|---|---|"]
    for each in arguments:
        default = "required" if each.required else "–" if each.default is None else f"`{each.default}`"
        rows.append(f"| `{each.name}` | {each.kind} | {default} | {each.doc} |")
    return "\n".join(rows) + "\n"
