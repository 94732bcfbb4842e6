"""What to write where a value of `--set` or of a recipe has the wrong type."""

import json
import math
import tomllib
from collections.abc import Mapping
from typing import Any

_MAX_SHOWN = 60
_BOOLEANS = {
    "true": "true",
    "yes": "true",
    "on": "true",
    "1": "true",
    "false": "false",
    "no": "false",
    "off": "false",
    "0": "false",
}


def hint(error: Mapping[str, Any]) -> str:
    """Return what was read and how to write it, for one of pydantic's errors; empty if the message says it all."""
    kind, value = error["type"], error["input"]
    if kind in ("extra_forbidden", "missing") or kind.startswith(("union_tag", "value_error", "assertion")):
        return ""
    read = f"; it was read as {_shown(value)}"
    advice = _how_to_write(kind, value)
    return f"{read}; write {advice}" if advice else read


def _shown(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
    return f"the text {text}" if isinstance(value, str) else text


def _how_to_write(kind: str, value: object) -> str | None:
    """Return TOML for what was probably meant, or a description of it."""
    if not kind.endswith(("_type", "_parsing", "_from_float")):
        return None
    match kind.split("_")[0]:
        case "bool":
            return _BOOLEANS.get(str(value).lower(), "true or false")
        case "int":
            number = _number(value)
            return str(int(number)) if number is not None and number.is_integer() else "a whole number, as 1000"
        case "float":
            number = _number(value)
            return repr(number) if number is not None else "a number, as 0.0001"
        case "tuple" | "list" | "set" | "frozenset":
            return _list(value)
        case "string":
            return json.dumps(str(value), ensure_ascii=False)
        case "model" | "dict" | "dataclass":
            return "its settings one by one, as KEY.NAME=VALUE"
    return None


def _number(value: object) -> float | None:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    try:
        number = float(str(value).replace(",", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _list(value: object) -> str:
    """Return a TOML list of what stands between commas."""
    parts = [part.strip() for part in str(value).strip("[]() ").split(",")]
    if not isinstance(value, str) or not all(parts):
        return "a list, as [0.5, 0.9]"
    return f"[{', '.join(part if _is_toml(part) else json.dumps(part, ensure_ascii=False) for part in parts)}]"


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return False
    return True
