"""Whether a task takes these arguments: checked when it is called, before anything is published."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from opsq import plugins
from opsq.errors import UsageError


class BadArguments(UsageError, TypeError):
    """A task was called with arguments that it does not take."""


class ArgumentCheck:
    """Checks calls against the signature of ``function``. Thread: any.

    The usual call, positional arguments only, is checked by counting.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters.values()
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        required = [p for p in positional if p.default is p.empty]
        needs_keywords = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
        unlimited = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self._fewest = -1 if needs_keywords else len(required)
        self._most = 1 << 30 if unlimited else len(positional)

    def __call__(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> None:
        """Raise BadArguments, a TypeError, when the function does not take these."""
        if not kwargs and 0 <= self._fewest <= len(args or ()) <= self._most:
            return
        if args is not None and not isinstance(args, (list, tuple)):
            raise BadArguments(f"args of a call of {self._name!r} is a list or tuple, got {args!r:.80}")
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise BadArguments(f"kwargs of a call of {self._name!r} is a dict, got {kwargs!r:.80}")
        try:
            self._signature.bind(*(args or ()), **(kwargs or {}))
        except TypeError as error:
            raise BadArguments(f"task {self._name!r} was called with the wrong arguments: {error}") from None


def with_pydantic(function: Callable[..., Any], bind: bool, options: dict[str, Any]) -> Callable[..., Any]:
    """Wrap ``function`` so that arguments become the pydantic models it is annotated with, and a model it
    returns becomes plain data.

    options: ``pydantic_strict``, ``pydantic_context`` and ``pydantic_dump_kwargs`` are read from it.
    Raises: ConfigError when pydantic is not installed.
    """
    model: Any = getattr(plugins.require("pydantic", "a task with pydantic=True"), "BaseModel")  # noqa: B009 untyped here
    signature = inspect.signature(function)
    hints = get_type_hints(function)
    validate = {
        "strict": options.get("pydantic_strict", False) or None,
        "context": options.get("pydantic_context") or {},
    }
    dump = {"mode": "json", **(options.get("pydantic_dump_kwargs") or {})}

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            kind = hints.get(name)
            if isinstance(kind, type) and issubclass(kind, model) and not isinstance(value, kind):
                bound.arguments[name] = kind.model_validate(value, **validate)  # type: ignore[attr-defined]  # a model
        returned = function(*bound.args, **bound.kwargs)
        return returned.model_dump(**dump) if isinstance(returned, model) else returned

    return run
