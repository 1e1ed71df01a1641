"""Remote commands of your own: a function becomes one that ``opsq control`` and ``opsq inspect`` know.

    @app.control_command(args=[("n", int)])
    def forget_cache(state, n=1):
        "Drop the n oldest entries of the cache."
        ...
        return {"ok": f"dropped {n}"}

``state`` is what built-in commands get: ``state.app``, ``state.hostname``, ``state.settings``, ``state.pool``.
What the function returns is the reply of that worker; what it raises is answered as ``{"error": …}``.
Source: Celery's ``celery.worker.control``, whose decorators take the same names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, overload

from msgspec import Struct

from opsq.control.commands import BY_ANY_NAME, OPERATOR, ROLES, VIEWER, Argument, Command
from opsq.core.registry import PROCESS
from opsq.errors import UsageError

if TYPE_CHECKING:
    from opsq.core.app import Opsq

Run = Callable[..., Any]
_KINDS: Final[Mapping[Any, str]] = {int: "integer", float: "number", bool: "flag", str: "text"}
_OPTIONS: Final = frozenset(
    {"name", "alias", "args", "signature", "variadic", "default_timeout", "visible", "help", "type", "role"}
)
_KEPT_AS: Final = "_own_commands"


class OwnCommand(Struct, frozen=True):
    """A function with the row it would have in the table of commands."""

    command: Command
    run: Run


class Declares:
    """``app.control_command`` and ``app.inspect_command``: decorators that belong to one app."""

    def __init__(self, effect: str) -> None:
        self._effect = effect

    @overload
    def __get__(self, app: None, owner: type) -> Declares: ...

    @overload
    def __get__(self, app: Opsq, owner: type) -> Callable[..., Any]: ...

    def __get__(self, app: Opsq | None, owner: type) -> Any:
        if app is None:
            return self

        def decorate(function: Run | None = None, **options: Any) -> Any:
            return _declared(function, options, self._effect, vars(app).setdefault(_KEPT_AS, {}))

        return decorate


def control_command(function: Run | None = None, **options: Any) -> Any:
    """Make a function a remote command that changes something, in every worker of this process.

    options: ``name``, ``alias``, ``args`` (pairs of name and type), ``variadic`` (argument that takes the rest),
    ``signature`` (accepted, not needed), ``default_timeout`` (seconds), ``visible``, ``help``; and ours, ``role``.
    Raises: UsageError for an unknown option, or for the name of a command that exists.
    """
    return _declared(function, options, "write", PROCESS.commands)


def inspect_command(function: Run | None = None, **options: Any) -> Any:
    """Make a function a remote command that only tells something; options as ``control_command``."""
    return _declared(function, options, "read", PROCESS.commands)


def own_commands(app: Any) -> dict[str, OwnCommand]:
    """The commands of ``app`` and of this process by name and alias; the app's own win."""
    found = [*PROCESS.commands.copy().values(), *vars(app).get(_KEPT_AS, {}).copy().values()]
    return {name: each for each in found for name in (each.command.name, *each.command.aliases)}


def _declared(function: Run | None, options: Mapping[str, Any], effect: str, into: dict[str, Any]) -> Any:
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise UsageError(f"a command has no option {', '.join(unknown)}; there are {', '.join(sorted(_OPTIONS))}")

    def declare(run: Run) -> Run:
        command = _command(run, options, {"control": "write", "inspect": "read"}.get(options.get("type", ""), effect))
        for name in (command.name, *command.aliases):
            if name in BY_ANY_NAME:
                raise UsageError(f"{name!r} is a remote command of opsq's; give yours another with name=")
        into[command.name] = OwnCommand(command, run)
        return run

    return declare if function is None else declare(function)


def _command(run: Run, options: Mapping[str, Any], effect: str) -> Command:
    role = options.get("role") or (VIEWER if effect == "read" else OPERATOR)
    if role not in ROLES:
        raise UsageError(f"role: expected one of {', '.join(ROLES)}, got {role!r}")
    parameters = list(inspect.signature(run).parameters.values())[1:]
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    doc = (options.get("help") or inspect.getdoc(run) or f"Command of {run.__module__}.").strip().splitlines()[0]
    alias, order = options.get("alias"), _order(options, [each.name for each in named])
    return Command(
        name=options.get("name") or run.__name__,
        effect=effect,
        doc=doc if doc.endswith(".") else f"{doc}.",
        reply="what the function returns",
        arguments=tuple(_argument(each, options) for each in named),
        aliases=(alias,) if alias else (),
        words=tuple(order),
        role=role,
        shape="any",
        origin="own",
        hidden=not options.get("visible", True),
        open=any(each.kind is each.VAR_KEYWORD for each in parameters),
        timeout_s=float(options.get("default_timeout") or 1.0),
    )


def _order(options: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The arguments in the order in which the command line takes them."""
    given = [each[0] if isinstance(each, (tuple, list)) else each for each in options.get("args") or ()]
    variadic = options.get("variadic")
    wanted = [name for name in (*given, variadic) if name in names]
    return list(dict.fromkeys(wanted)) or [name for name in names if name != variadic]


def _argument(parameter: inspect.Parameter, options: Mapping[str, Any]) -> Argument:
    types = {each[0]: each[1] for each in options.get("args") or () if isinstance(each, (tuple, list))}
    kind = _KINDS.get(types.get(parameter.name, _plain(parameter.annotation)), "any")
    if parameter.name == options.get("variadic"):
        kind = "texts"
    required = parameter.default is parameter.empty
    return Argument(parameter.name, kind, "", required=required, default=None if required else parameter.default)


def _plain(annotation: Any) -> Any:
    """The class behind an annotation; postponed ones are text."""
    return {"int": int, "float": float, "bool": bool, "str": str}.get(annotation, annotation)
