"""Let the fork server see what the worker's ``__main__`` sees.

``python hello.py worker`` defines its app in ``__main__``, a module no other process can import.
The fork server runs the same file again under the name ``__mp_main__``, as the standard library
does for spawned processes, so that the part under ``if __name__ == "__main__"`` stays out.
"""

from __future__ import annotations

import io
import os
import pickle
import runpy
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from opsq.core.pools.prefork_records import MainModule
from opsq.errors import ConfigError, Fault, UsageError

ALIAS: Final = "__mp_main__"
_MARK: Final = "__opsq_fork_server__"


def describe_main() -> MainModule | None:
    """Say how the running ``__main__`` can be run again; None for an interactive session."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return MainModule(name=spec.name)
    path = getattr(main, "__file__", None)
    return MainModule(path=os.path.abspath(path)) if path else None


def run_main_again(main: MainModule) -> None:
    """Run the worker's main module under its alias and put it where ``__main__`` was."""
    module = ModuleType(ALIAS)
    setattr(module, _MARK, True)
    sys.modules["__main__"] = sys.modules[ALIAS] = module
    if main.path is not None:
        module.__file__ = main.path
        with io.open_code(main.path) as file:
            exec(compile(file.read(), main.path, "exec"), module.__dict__)
    elif main.name is not None:
        module.__dict__.update(runpy.run_module(main.name, run_name=ALIAS, alter_sys=True))
    sys.modules["__main__"] = sys.modules[ALIAS] = module


def refuse_inside_fork_server() -> None:
    """Raise UsageError when a script starts a worker while a fork server is importing it."""
    if getattr(sys.modules.get("__main__"), _MARK, False):
        raise UsageError(
            "the script starts its worker again while the worker's own fork server imports it; "
            "put that call under: if __name__ == '__main__':"
        )


def pack_setup(setup: str | Callable[..., Any]) -> tuple[str, bytes, MainModule | None]:
    """Turn ``child_setup`` into what another process can load: spec, pickle, main module.

    Raises ConfigError when the callable can only be reached from inside this process.
    """
    if isinstance(setup, str):
        needs_main = setup.partition(":")[0] == "__main__"
        return setup, b"", _main_for(setup) if needs_main else None
    try:
        pickled = pickle.dumps(setup)
    except (pickle.PicklingError, AttributeError, TypeError) as exc:
        fault = Fault(
            f"the prefork pool cannot hand {setup!r} to its child processes: {exc}",
            remedy="define the app and its set-up at the top level of a module, or use --pool threads",
        )
        raise ConfigError([fault]) from exc
    return "", pickled, _main_for(repr(setup)) if b"__main__" in pickled else None


def _main_for(what: str) -> MainModule:
    main = describe_main()
    if main is None or (main.path is not None and not os.path.isfile(main.path)):
        fault = Fault(
            f"the prefork pool cannot reach {what}: it is defined in an interactive session, which no other process "
            "can import",
            remedy="save it in a file and pass -A module, or use --pool threads",
        )
        raise ConfigError([fault])
    return main
