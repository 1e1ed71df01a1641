"""Import by name: the application, plugins of other packages, optional dependencies.

The only module that uses ``importlib``. What cannot be imported becomes a ``ConfigError`` that says
whether the name is wrong, something is not installed, or the code failed, and where. Thread: any.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Final, Protocol, TypeVar, cast

from opsq.errors import ConfigError, Fault

T = TypeVar("T")

GROUPS: Final[Mapping[str, str]] = {
    "opsq.brokers": "kombu transports, by URL scheme",
    "opsq.backends": "result stores, by URL scheme",
    "opsq.beat_stores": "where a schedule is kept, by URL scheme",
    "opsq.stores": "history stores of the monitor, by URL scheme",
    "opsq.pools": "ways to run tasks, by pool name",
    "opsq.worker_steps": "bootsteps of the worker process",
    "opsq.connection_steps": "bootsteps of each worker connection",
    "opsq.monitor_steps": "bootsteps of the monitor",
    "opsq.serializers": "ways to write values as bytes, by name",
    "opsq.compressions": "ways to make bodies smaller, by name",
    "opsq.depth_probes": "queue depth probes, by transport name",
    "opsq.commands": "remote control commands",
    "opsq.autoscale_targets": "what the autoscaler can scale",
    "opsq.pages": "pages of the web interface",
}
"""Entry-point groups that are read; nothing else is loaded by name."""

EXTRAS: Final[Mapping[str, str]] = {
    "boto3": "sqs",
    "botocore": "s3",
    "brotli": "brotli",
    "bson": "mongodb",
    "cassandra": "cassandra",
    "cryptography": "auth",
    "django": "django",
    "eventlet": "eventlet",
    "gevent": "gevent",
    "httpx": "http",
    "msgpack": "msgpack",
    "psycopg": "postgres",
    "psycopg2": "postgres",
    "pydantic": "pydantic",
    "pymemcache": "memcached",
    "pymongo": "mongodb",
    "pymysql": "mysql",
    "redis": "redis",
    "sqlalchemy": "sqlalchemy",
    "watchfiles": "autoreload",
    "yaml": "yaml",
    "zstandard": "zstd",
}
"""Optional packages by import name, and the extra of opsq that installs each."""

APP_NAMES: Final = ("app", "celery")
APP_MODULES: Final = ("app", "celery", "opsq")


class _EntryPoint(Protocol):
    name: str
    value: str

    def load(self) -> object: ...


def require(module: str, purpose: str) -> ModuleType:
    """Import an optional package.

    purpose: what needs it, for the message, such as "the Redis broker".
    Raises: ConfigError with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name != top and error.name != module:
            raise ConfigError([_import_fault(module, error, purpose)]) from error
        raise ConfigError(
            [Fault(f"{purpose} needs the package {top}, which is not installed", "", _cure(top))]
        ) from None


def import_module(name: str, *, origin: str = "") -> ModuleType:
    """Import a module of the user's.

    origin: where the name came from, for the message.
    Raises: ConfigError when there is no such module or its code fails; the cause is chained.
    """
    try:
        return importlib.import_module(name)
    except ConfigError:
        raise  # it says already what is wrong, and where
    except Exception as error:  # boundary: the user's module may raise anything
        raise ConfigError([_import_fault(name, error, origin)]) from error


def import_modules(names: Iterable[str], *, origin: str = "imports") -> list[ModuleType]:
    """Import several modules. Raises: ConfigError with a fault for each that failed."""
    modules: list[ModuleType] = []
    faults: list[Fault] = []
    for name in names:
        try:
            modules.append(import_module(name, origin=origin))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return modules


def import_if_present(name: str, *, origin: str = "") -> ModuleType | None:
    """Import a module, or return None when there is none of that name.

    A module that exists but fails to import still raises ConfigError: that is never meant.
    """
    try:
        return import_module(name, origin=origin)
    except ConfigError as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and _is_own_name(name, error.__cause__):
            return None
        raise


def resolve(path: str, *, origin: str = "") -> object:
    """Return the object that ``module:attribute`` (or ``module.attribute``) names.

    Raises: ConfigError when the path is malformed, the module or attribute is missing, or the
    module's code fails.
    """
    module_name, colon, attribute = path.partition(":")
    if not colon:
        module_name, _, attribute = path.rpartition(".")
    if not module_name or not attribute or not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigError([Fault(f"expected a path like package.module:attribute, got {path!r}", origin)])
    found: object = import_module(module_name, origin=origin)
    for part in attribute.split("."):
        found = _attribute(found, part, path, origin)
    return found


def load_group(group: str) -> dict[str, object]:
    """Load what other packages registered under an entry-point group of ``GROUPS``.

    Returns: objects by entry-point name, sorted. Raises: ConfigError naming every plugin that fails,
    and every name that two packages claim.
    """
    if group not in GROUPS:
        raise ConfigError(f"{group} is not an entry-point group of opsq, only {', '.join(GROUPS)}")
    found: dict[str, object] = {}
    faults: list[Fault] = []
    for point in sorted(_entry_points(group), key=lambda point: (point.name, point.value)):
        if point.name in found:
            faults.append(Fault(f"two plugins are called {point.name}", f"entry points {group}", "uninstall one"))
            continue
        try:
            found[point.name] = point.load()
        except ConfigError as error:
            faults += error.faults
        except Exception as error:  # noqa: BLE001  # boundary: a plugin may raise anything while it is imported
            faults.append(_import_fault(point.value, error, f"entry point {group} {point.name}"))
    if faults:
        raise ConfigError(faults)
    return found


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, None when it is not installed."""
    metadata: Any = importlib.import_module("importlib.metadata")
    try:
        return str(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return None


def choose(group: str, name: str, builtin: Mapping[str, str], *, origin: str = "") -> object:
    """Return the plugin called ``name``: a built-in (name to path), an entry point, or ``module:attr``.

    Raises: ConfigError listing what there is when nothing has that name.
    """
    if name in builtin:
        return resolve(builtin[name], origin=origin)
    if ":" in name:
        return resolve(name, origin=origin)
    plugins = load_group(group)
    if name in plugins:
        return plugins[name]
    names = sorted({*builtin, *plugins})
    raise ConfigError([Fault(f"expected one of {', '.join(names)}, got {name!r}", origin, _did_you_mean(name, names))])


def load_app(spec: str, kind: type[T], *, origin: str = "-A", cwd: str | None = None) -> T:
    """Import the application.

    spec: ``module:attribute``, a module or a package. Of a module the attribute ``app`` or ``celery``
    is taken, else its only instance of ``kind``; a package may hold it in its module ``app``,
    ``celery`` or ``opsq``. cwd: folder to import from besides ``sys.path``; the current one if None.
    Raises: ConfigError saying what was looked for. Side effect: ``cwd`` goes on ``sys.path``.
    """
    folder = os.getcwd() if cwd is None else cwd
    if folder not in sys.path and not ("" in sys.path and folder == os.getcwd()):
        sys.path.insert(0, folder)
    if ":" in spec:
        found = resolve(spec, origin=origin)
        if isinstance(found, ModuleType):
            return _app_in(found, kind, origin)
    else:
        module = import_if_present(spec, origin=origin)
        if module is not None:
            return _app_in(module, kind, origin)
        if "." not in spec:
            raise ConfigError([_no_module(spec, origin, folder)])
        found = _resolve_dotted(spec, origin, folder)
    if not isinstance(found, kind):
        problem = f"expected {spec} to be an {kind.__name__} application, got {type(found).__name__}"
        raise ConfigError([Fault(problem, origin)])
    return found


def _resolve_dotted(spec: str, origin: str, folder: str) -> object:
    module_name, _, attribute = spec.rpartition(".")
    module = import_if_present(module_name, origin=origin)
    if module is None:
        raise ConfigError([_no_module(spec, origin, folder)])
    return _attribute(module, attribute, spec, origin)


def _app_in(module: ModuleType, kind: type[T], origin: str) -> T:
    for name in APP_NAMES:
        found = getattr(module, name, None)
        if isinstance(found, kind):
            return found
    instances = {id(value): name for name, value in vars(module).items() if isinstance(value, kind)}
    if len(instances) == 1:
        return cast(T, getattr(module, next(iter(instances.values()))))
    if instances:
        names = ", ".join(f"{module.__name__}:{name}" for name in sorted(instances.values()))
        raise ConfigError([Fault(f"{module.__name__} holds several applications", origin, f"choose one of {names}")])
    if hasattr(module, "__path__"):
        for name in APP_MODULES:
            inner = import_if_present(f"{module.__name__}.{name}", origin=origin)
            if inner is not None and inner.__name__ != "opsq":
                return _app_in(inner, kind, origin)
    remedy = f"name it, as in {module.__name__}:my_app"
    raise ConfigError([Fault(f"found no {kind.__name__} application in {module.__name__}", origin, remedy)])


def _attribute(holder: object, name: str, path: str, origin: str) -> object:
    try:
        return getattr(holder, name)
    except AttributeError:
        there = [other for other in dir(holder) if not other.startswith("_")]
        where = getattr(holder, "__name__", type(holder).__name__)
        problem = f"{where} has no attribute {name!r}, wanted by {path!r}"
        raise ConfigError([Fault(problem, origin, _did_you_mean(name, there))]) from None


def _entry_points(group: str) -> list[_EntryPoint]:
    # Loaded here because it takes 20 ms, which programs that only send tasks must not pay.
    metadata: Any = importlib.import_module("importlib.metadata")
    return list(metadata.entry_points(group=group))


def _import_fault(name: str, error: Exception, origin: str) -> Fault:
    if isinstance(error, ModuleNotFoundError) and error.name:
        if _is_own_name(name, error):
            return Fault(f"there is no module {name}", origin, f"looked in {', '.join(sys.path[:3])}, …")
        top = error.name.partition(".")[0]
        return Fault(f"{name} imports {error.name}, which is not installed{_place(error)}", origin, _cure(top))
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Fault(f"importing {name} failed with {said}{_place(error)}", origin)


def _is_own_name(name: str, error: ModuleNotFoundError) -> bool:
    missing = error.name or ""
    module = name.partition(":")[0]
    return missing == module or module.startswith(missing + ".")


def _place(error: BaseException) -> str:
    """Where the user's code failed: the last frame outside the import machinery and this module."""
    if isinstance(error, SyntaxError) and error.filename:
        return ""  # its text names file and line already
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if not frame.filename.startswith("<") and frame.filename != __file__ and "importlib" not in frame.filename:
            return f", {frame.filename}:{frame.lineno}"
    return ""


def _no_module(spec: str, origin: str, folder: str) -> Fault:
    return Fault(f"there is no module {spec}", origin, f"looked in {folder} and on sys.path")


def _cure(package: str) -> str:
    if package in EXTRAS:
        return f'pip install "opsq[{EXTRAS[package]}]"'
    return f"pip install {package}"


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {near[0]}?" if near else ""
