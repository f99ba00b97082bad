"""The order of keys and of values, as every Firebase client sorts them.

Source: "How query data is ordered" in the Realtime Database documentation, and `nameCompare` of the JavaScript SDK.
The functions return tuples that compare in that order.
"""

import re

KeyOrder = tuple[int, int, int, str]
ValueOrder = tuple[int, float, str]

_INTEGER_LIKE = re.compile(r"-?0*[0-9]{1,10}", re.ASCII)
_INTEGER_MIN = -(2**31)
_INTEGER_MAX = 2**31 - 1

OBJECT_ORDER: ValueOrder = (5, 0, "")


def text_order(text: str) -> str:
    """A string whose order by code point is the order of `text` by UTF-16 unit, which is how JavaScript compares."""
    if text.isascii() or max(text) < "\U00010000":
        return text
    units = text.encode("utf-16-be")
    return "".join(chr(units[at] << 8 | units[at + 1]) for at in range(0, len(units), 2))


def key_order(key: str) -> KeyOrder:
    """Keys that are signed 32-bit integers come first, in numeric order; equal numbers ("1", "01") by length."""
    if key and key[0] in "-0123456789" and _INTEGER_LIKE.fullmatch(key):
        number = int(key)
        if _INTEGER_MIN <= number <= _INTEGER_MAX:
            return (0, number, len(key), "")
    return (1, 0, 0, text_order(key))


def value_order(value: bool | int | float | str | None) -> ValueOrder:
    """null, false, true, numbers, strings; objects come after all of these (OBJECT_ORDER)."""
    if value is None:
        return (0, 0, "")
    if value is False:
        return (1, 0, "")
    if value is True:
        return (2, 0, "")
    if isinstance(value, str):
        return (4, 0, text_order(value))
    return (3, value, "")
