"""What one setting is: its type, bounds, unit and secrecy.

The table itself is ``settings.py``, reading a raw value is ``settings_values.py``. Pure, and light to
import, because every ``import opsq`` pays for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, dataclass_transform

from opsq.masking import MASK, Secret, mask

KIND_WORDS: Final[Mapping[str, str]] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple[str, ...]": "a list of texts",
    "dict[str, object]": "a table",
    "None": "none",
    "object": "anything",
}


@dataclass(frozen=True, slots=True)
class OptionInfo:
    """What is known about one setting.

    kinds: the types its annotation allows. unit: what a number counts ("s", "bytes", "slots"…).
    synonyms: accepted values that stand for another ("auto" for 0). secret: never shown.
    url: may hold a password inside a URL. inert: why opsq accepts but does not use it; empty when it does.
    """

    name: str
    kinds: tuple[str, ...]
    default: object
    doc: str
    unit: str = ""
    min: float | None = None
    max: float | None = None
    choices: tuple[str, ...] = ()
    synonyms: Mapping[object, object] = dataclasses.field(default_factory=dict)
    secret: bool = False
    url: bool = False
    inert: str = ""
    celery_default: object = None
    differs: bool = False


_UNSET: Final = object()


def option(
    *,
    default: object,
    doc: str,
    unit: str = "",
    min: float | None = None,
    max: float | None = None,
    choices: tuple[str, ...] = (),
    synonyms: Mapping[object, object] | None = None,
    secret: bool = False,
    url: bool = False,
    inert: str = "",
    celery: object = _UNSET,
) -> Any:
    """Declare one setting as a dataclass field; ``option_info`` reads it back.

    celery: Celery's default where opsq's differs. The others: see ``OptionInfo``.
    """
    about = {
        "doc": doc, "unit": unit, "min": min, "max": max, "choices": choices, "synonyms": synonyms or {},
        "secret": secret, "url": url, "inert": inert, "differs": celery is not _UNSET,
        "celery_default": None if celery is _UNSET else celery,
    }  # fmt: skip
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=about)
    return dataclasses.field(default=default, metadata=about)


_Table = TypeVar("_Table")


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False, field_specifiers=(option,))
def table(cls: type[_Table]) -> type[_Table]:
    """Make ``cls`` a frozen keyword-only dataclass whose fields are options.

    Its constructor is written here because the generated one takes 8 ms to compile for 300 fields,
    which every program that imports the client would pay.
    """
    make = dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False, match_args=False, init=False)
    made = make(cls)
    fields = {field.name: field for field in dataclasses.fields(made)}  # type: ignore[arg-type]  # it is one now

    def fill(self: _Table, **values: object) -> None:
        for name, field in fields.items():
            if name in values:
                value = values.pop(name)
            else:
                value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            object.__setattr__(self, name, value)
        if values:
            raise TypeError(f"{made.__name__} has no setting {', '.join(sorted(values))}")

    type.__setattr__(made, "__init__", fill)
    return made


def option_info(field: dataclasses.Field[Any]) -> OptionInfo:
    """Describe a field made by ``option``; its annotation must be the text of a known type."""
    kinds = tuple(part.strip() for part in str(field.type).split("|"))
    unknown = [kind for kind in kinds if kind not in KIND_WORDS and kind != "Secret"]
    if unknown:
        raise TypeError(f"setting {field.name}: no rule reads the type {unknown[0]}")
    factory = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    return OptionInfo(name=field.name, kinds=kinds, default=default, **field.metadata)


def shown(info: OptionInfo, value: object) -> object:
    """Return ``value`` as it may be printed: secrets starred, passwords in URLs starred."""
    if isinstance(value, Secret):
        return MASK
    if info.secret and value not in (None, "", (), {}):
        return dict.fromkeys(value, MASK) if isinstance(value, Mapping) else MASK
    return mask(value)


def number_text(value: float) -> str:
    """Write a number for people: whole ones in full, others with six digits at most."""
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else f"{value:g}"


def bounds_text(info: OptionInfo) -> str:
    """Say the bounds of a numeric setting: "between 1 and 9 s", "at least 0", or nothing."""
    unit = f" {info.unit}" if info.unit else ""
    if info.min is not None and info.max is not None:
        return f"between {number_text(info.min)} and {number_text(info.max)}{unit}"
    if info.min is not None:
        return f"at least {number_text(info.min)}{unit}"
    return f"at most {number_text(info.max)}{unit}" if info.max is not None else ""


def kinds_text(info: OptionInfo) -> str:
    """Say in words what types a setting takes: "a whole number or none"."""
    words = ["text" if kind == "Secret" else KIND_WORDS[kind] for kind in info.kinds]
    return ", ".join(words[:-1]) + (" or " if len(words) > 1 else "") + words[-1]
