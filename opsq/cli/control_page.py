"""``docs/control.md``, written from the table of remote commands."""

from __future__ import annotations

from collections.abc import Iterable

from opsq.control.commands import COMMANDS, Argument, Command

HEAD = """\
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

`-d` names workers, `-t` says how long to wait, `--json` prints `{node: answer}`. Exit code 69: nobody answered, or not
everybody who was named; 1: somebody answered with an error. In Python: `app.control.rate_limit("shop.mail", "10/m",
reply=True)`, `app.control.inspect().active()`.

What nobody can do is answered as `{"error": text}`: an unknown command, arguments that do not fit, a time limit on a
pool that cannot stop a running task.

A revoked task is remembered by each worker (`worker_revokes_max`, `worker_revoke_expires`), across restarts with
`worker_state_db`, and told to workers that start (`worker_mingle`). Those that wait are taken back at once and stored
as REVOKED. A changed rate holds for what waits, too; a changed time limit for what has not been given to the pool.
Both hold until the worker ends.
"""


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
    lines = [f"### `{command.name}`\n", f"{command.doc}{also}{hidden} Reply: {command.reply}.\n"]
    if command.arguments:
        lines.append(_table(command.arguments))
    return "\n".join(lines)


def _table(arguments: Iterable[Argument]) -> str:
    rows = ["| argument | kind | default | meaning |", "|---|---|---|---|"]
    for each in arguments:
        default = "required" if each.required else "–" if each.default is None else f"`{each.default}`"
        rows.append(f"| `{each.name}` | {each.kind} | {default} | {each.doc} |")
    return "\n".join(rows) + "\n"
