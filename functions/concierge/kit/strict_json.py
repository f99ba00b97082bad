"""JSON as it comes from outside, read so that all readers see the same: I-JSON (RFC 7493).

What Python's parser would let pass, or decide by itself, is refused: other encodings than UTF-8, a name twice in one
object, NaN and Infinity, numbers that no double can hold, halves of surrogate pairs, and depths that later steps would
not survive.
"""

import json
import math
from typing import Any, NoReturn

DEPTH_MAX = 32


def parse(raw: bytes) -> Any:
    """The value. Raises ValueError, whose message may be shown, for anything that is not I-JSON."""
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_number
        )
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check(value, 0)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same name twice")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _check(value: Any, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise ValueError("it is nested too deeply")
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("a text has half a surrogate pair")
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            _check(name, depth)
            _check(item, depth + 1)
