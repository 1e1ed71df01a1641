"""Turn a raw value, from TOML, the environment or code, into what a setting takes, or say why not. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from opsq.masking import Secret
from opsq.settings_options import OptionInfo, bounds_text, kinds_text, number_text, shown

TRUE_WORDS: Final = frozenset({"1", "true", "yes", "on", "t", "y"})
FALSE_WORDS: Final = frozenset({"0", "false", "no", "off", "f", "n"})
NONE_WORDS: Final = frozenset({"", "none", "null"})
MULTIPLES: Final[Mapping[str, Mapping[str, float]]] = {
    "s": {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800},
    "days": {"d": 1, "w": 7},
    "bytes": {
        "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4,
        "k": 1024, "m": 1024**2, "g": 1024**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4,
    },
    "KiB": {"kib": 1, "mib": 1024, "gib": 1024**2, "k": 1, "m": 1024, "g": 1024**2},
}  # fmt: skip


def coerce(info: OptionInfo, value: object, *, from_text: bool = False) -> object:
    """Return ``value`` as the type, within the bounds, that ``info`` demands.

    from_text: the value comes from an environment variable, where everything is text; then "none",
    numbers and JSON are read as such even where text would be allowed.
    Raises: ValueError saying what was expected and what was found, without showing a secret.
    """
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        value = info.synonyms.get(value.lower() if isinstance(value, str) else value, value)
    if value is None and None in info.synonyms:
        value = info.synonyms[None]
    # None first: in the environment the word "none" must not be taken for a text.
    for kind in sorted(info.kinds, key=lambda kind: kind != "None"):
        found, good = _READERS[kind](info, value, from_text)
        if found:
            return _within_bounds(info, good)
    raise ValueError(_expected(info, value))


# Each reader answers (taken, value): taken is False when the raw value is not of this kind.
_Reader = Callable[[OptionInfo, object, bool], tuple[bool, object]]


def _read_none(info: OptionInfo, value: object, from_text: bool) -> tuple[bool, object]:
    return value is None or (from_text and isinstance(value, str) and value.strip().lower() in NONE_WORDS), None


def _read_bool(info: OptionInfo, value: object, from_text: bool) -> tuple[bool, object]:
    if isinstance(value, bool):
        return True, value
    if isinstance(value, int) and value in (0, 1) and "int" not in info.kinds:
        return True, bool(value)
    if isinstance(value, str) and (from_text or "str" not in info.kinds):
        word = value.strip().lower()
        return word in TRUE_WORDS or word in FALSE_WORDS, word in TRUE_WORDS
    return False, None


def _read_int(info: OptionInfo, value: object, from_text: bool) -> tuple[bool, object]:
    number = _number(info, value, from_text)
    if number is None or number != number or number in (float("inf"), float("-inf")) or number != int(number):
        return False, None
    return True, int(number)


def _read_float(info: OptionInfo, value: object, from_text: bool) -> tuple[bool, object]:
    number = _number(info, value, from_text)
    if number is None or number != number:
        return False, None
    return True, float(number)


def _number(info: OptionInfo, value: object, from_text: bool) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, timedelta):
        return value.total_seconds() if info.unit == "s" else None
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, str) and (from_text or "str" not in info.kinds):
        return _number_in(value.strip().lower(), MULTIPLES.get(info.unit, {}))
    return None


def _number_in(text: str, multiples: Mapping[str, float]) -> float | None:
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    suffix = text[len(digits) :].strip()
    if text in ("inf", "infinity"):
        return float("inf")
    if suffix and suffix not in multiples:
        return None
    digits = digits.replace("_", "")
    try:
        number: float = int(digits) if digits.lstrip("+-").isdigit() else float(digits)
    except ValueError:
        return None
    return number * multiples[suffix] if suffix else number


def _read_str(info: OptionInfo, value: object, from_text: bool) -> tuple[bool, object]:
    return isinstance(value, str), value


def _read_secret(info: OptionInfo, value: object, from_text: bool) -> tuple[bool, object]:
    if isinstance(value, Secret):
        return True, value
    return isinstance(value, str), Secret(value) if isinstance(value, str) else None


def _read_tuple(info: OptionInfo, value: object, from_text: bool) -> tuple[bool, object]:
    if isinstance(value, str) and (from_text or "str" not in info.kinds):
        text = value.strip()
        if text.startswith("["):
            value = _json(text)
        elif "str" in info.kinds:
            return False, None
        else:
            value = [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(item, str) for item in value):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return True, tuple(items)
    return False, None


def _read_dict(info: OptionInfo, value: object, from_text: bool) -> tuple[bool, object]:
    if isinstance(value, str) and value.strip().startswith("{") and (from_text or "str" not in info.kinds):
        value = _json(value)
    if isinstance(value, Mapping):
        return True, dict(value)
    return False, None


def _read_object(info: OptionInfo, value: object, from_text: bool) -> tuple[bool, object]:
    if _read_none(info, value, from_text)[0]:
        return True, None
    if from_text and isinstance(value, str) and value.strip()[:1] in ("{", "["):
        read = _json(value)
        return True, value if read is None else read
    return True, value


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


_READERS: Final[Mapping[str, _Reader]] = {
    "None": _read_none,
    "bool": _read_bool,
    "int": _read_int,
    "float": _read_float,
    "str": _read_str,
    "Secret": _read_secret,
    "tuple[str, ...]": _read_tuple,
    "dict[str, object]": _read_dict,
    "object": _read_object,
}


def _within_bounds(info: OptionInfo, value: object) -> object:
    if isinstance(value, str) and info.choices:
        for choice in info.choices:
            if choice.lower() == value.lower():
                return choice
        raise ValueError(f"expected {info.name} to be one of {', '.join(info.choices)}, got {shown(info, value)!r}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = info.min, info.max
        if (low is not None and value < low) or (high is not None and value > high):
            raise ValueError(f"expected {info.name} {bounds_text(info)}, got {number_text(value)}")
    return value


def _expected(info: OptionInfo, value: object) -> str:
    got = "a value of the wrong type" if info.secret else f"{shown(info, value)!r}"
    unit = f" ({info.unit})" if info.unit else ""
    return f"expected {info.name} to be {kinds_text(info)}{unit}, got {got}"
