"""The change of an RTDB event as the SDK wants it: `{"data": before, "delta": change}`. Pure.

The SDK computes `after` itself: it deep-merges the delta into the data where both are objects and drops nulls, and
otherwise takes the delta as it is (firebase_functions 0.6, db_fn.py, private/util.py). A removed key must be a null.
"""

from collections.abc import Mapping

from emulator.contracts import Json


def same(left: Json, right: Json) -> bool:
    """JSON equality. Python alone would take true for 1 and false for 0, inside of lists and objects too."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def encode(before: Json, after: Json) -> tuple[Json, Json]:
    """The pair (data, delta) from which the SDK's handler gives `after` back exactly, and `before` if it can.

    The SDK cannot merge an object into a child that was a scalar or an array: it raises AttributeError. No delta says
    "replace" there, so such a child is left out of `data`, and the handler sees a `before` without it. Everywhere else
    `data` is `before`.
    """
    if not isinstance(before, dict) or not isinstance(after, dict):
        return before, after
    data = dict(before)
    delta: dict[str, Json] = {}
    for key, new in after.items():
        old = before.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            data[key], change = encode(old, new)
            if change:
                delta[key] = change
        elif key not in before or not same(old, new):
            if isinstance(new, dict):
                data.pop(key, None)
            delta[key] = new
    delta.update(dict.fromkeys(before.keys() - after.keys()))
    return data, delta
