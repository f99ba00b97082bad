"""From JSON on the wire to nodes: keys and paths are checked, server values resolved, arrays become maps.

Limits are those of "Realtime Database limits": keys of 768 bytes of UTF-8, 32 levels, strings of 10 MB.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from emulator.contracts import Json, RtdbPath
from emulator.rtdb.errors import InvalidRequest
from emulator.rtdb.tree import Branch, Leaf, Node, Priority, Scalar, branch_of

KEY_BYTES_MAX = 768
DEPTH_MAX = 32
STRING_BYTES_MAX = 10 * 1024 * 1024
_INTEGER_MAX = 2**63 - 1
_EXACT_MAX = 2.0**53
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f.#$\[\]/]")
_UNPARSABLE = "Invalid data; couldn't parse JSON object, array, or value."


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_json(body: bytes) -> Json:
    """The JSON of a request body. Raises InvalidRequest with the text of the production API."""
    if not body.strip():
        raise InvalidRequest("Error: No data supplied.")
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(_UNPARSABLE) from error


def check_key(key: str) -> None:
    """Raises InvalidRequest if a child may not have this name."""
    if not key or _FORBIDDEN.search(key):
        shown = json.dumps(key)
        raise InvalidRequest(
            f"Invalid data; couldn't parse key {shown}. Key value can't be empty or contain $ # [ ] / or ."
        )
    if len(key) * 4 > KEY_BYTES_MAX and len(_utf8(key)) > KEY_BYTES_MAX:
        raise InvalidRequest(f"Invalid data; a key exceeds the maximum of {KEY_BYTES_MAX} bytes.")
    if not key.isascii():
        _utf8(key)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON can escape but UTF-8 cannot carry
        raise InvalidRequest(_UNPARSABLE) from error


def parse_path(text: str) -> RtdbPath:
    """The keys of a path such as "/a/b"; empty segments are dropped. Raises InvalidRequest."""
    path = tuple(segment for segment in text.split("/") if segment)
    for key in path:
        if _FORBIDDEN.search(key):
            raise InvalidRequest("Invalid path: Invalid token in path")
        check_key(key)
    check_depth(len(path))
    return path


def check_depth(depth: int) -> None:
    if depth > DEPTH_MAX:
        raise InvalidRequest(f"Invalid data; the path exceeds the maximum depth of {DEPTH_MAX} levels.")


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds nodes for one operation, so that every timestamp in it is the same `now_ms`."""

    now_ms: int

    def node(self, value: Json, *, depth: int, existing: Node | None = None) -> Node | None:
        """The node of a JSON value at `depth` levels below the root.

        `existing` is what is there now, which increments add to. Raises InvalidRequest.
        """
        if value is None:
            return None
        if isinstance(value, dict):
            return self._object(value, depth, existing)
        if isinstance(value, list):
            return self._children({str(index): item for index, item in enumerate(value)}, None, depth, existing)
        return Leaf(scalar(value))

    def priority(self, value: Json, existing: Node | None) -> Priority:
        """A priority on the wire: null, a number, a string, or a server value."""
        current = None if existing is None else existing.priority
        if isinstance(value, dict):
            value = self._server_value(value, current)
        if value is None:
            return None
        if isinstance(value, (bool, list, dict)):
            raise InvalidRequest("Invalid data; .priority must be a number, a string or null.")
        checked = scalar(value)
        assert not isinstance(checked, bool)
        return checked

    def _object(self, value: dict[str, Json], depth: int, existing: Node | None) -> Node | None:
        if ".sv" not in value and ".value" not in value and ".priority" not in value:
            return self._children(value, None, depth, existing)
        priority = self.priority(value.get(".priority"), existing)
        rest = {key: item for key, item in value.items() if key != ".priority"}
        if ".sv" not in rest and ".value" not in rest:
            return self._children(rest, priority, depth, existing)
        if len(rest) != 1:
            raise InvalidRequest("Invalid data; .value and .sv can't be mixed with other keys.")
        if ".sv" in rest:
            current = existing.value if isinstance(existing, Leaf) else None
            return Leaf(self._server_value(rest, current), priority)
        inner = rest[".value"]
        if isinstance(inner, dict) and ".sv" in inner:
            return self._object({**inner, ".priority": priority}, depth, existing)
        if isinstance(inner, (dict, list)):
            raise InvalidRequest("Invalid data; .value must be a string, a number, a boolean or null.")
        return None if inner is None else Leaf(scalar(inner), priority)

    def _children(self, value: dict[str, Json], priority: Priority, depth: int, existing: Node | None) -> Branch | None:
        current = existing.children if isinstance(existing, Branch) else None
        children: dict[str, Node] = {}
        for key, item in value.items():
            check_key(key)
            if item is None:
                continue
            check_depth(depth + 1)
            child = self.node(item, depth=depth + 1, existing=current.get(key) if current is not None else None)
            if child is not None:
                children[key] = child
        return branch_of(children, priority)

    def _server_value(self, value: dict[str, Json], current: Scalar | None) -> Scalar:
        """`{".sv": "timestamp"}` or `{".sv": {"increment": n}}`; an increment of anything but a number starts at 0."""
        operation = value.get(".sv")
        if set(value) == {".sv"}:
            if operation == "timestamp":
                return self.now_ms
            if isinstance(operation, dict) and set(operation) == {"increment"}:
                step = operation["increment"]
                if isinstance(step, (int, float)) and not isinstance(step, bool):
                    numeric = isinstance(current, (int, float)) and not isinstance(current, bool)
                    return scalar(current + step if numeric else step)  # type: ignore[operator]
        raise InvalidRequest("Invalid data; unknown server value.")


def scalar(value: Json) -> Scalar:
    """A checked scalar. Integers outside of 64 bits become doubles, doubles without a fraction integers (`1.0` is
    `1` in JavaScript, and comes back from the production service as such)."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if -_INTEGER_MAX - 1 <= value <= _INTEGER_MAX:
            return value
        try:
            return float(value)
        except OverflowError as error:
            raise InvalidRequest(_UNPARSABLE) from error
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest(_UNPARSABLE)
        return int(value) if value.is_integer() and abs(value) <= _EXACT_MAX else value
    if isinstance(value, str):
        if len(value) * 4 > STRING_BYTES_MAX and len(_utf8(value)) > STRING_BYTES_MAX:
            raise InvalidRequest("Invalid data; a string exceeds the maximum of 10485760 bytes.")
        if not value.isascii():
            _utf8(value)
        return value
    raise InvalidRequest(_UNPARSABLE)
