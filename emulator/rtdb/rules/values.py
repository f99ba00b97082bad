"""What expressions compute with: static types, snapshots, and the operators on values.

A value is None, a bool, a number, a string, a Snapshot, a dict or list of the token, or a Branch, which is what `val()`
of an object gives and which can only be compared.
"""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import Flag, auto
from typing import Any

from emulator.contracts import RtdbPath
from emulator.rtdb.errors import InvalidRequest
from emulator.rtdb.rules.errors import EvaluationError
from emulator.rtdb.tree import Branch, Leaf, Node, Priority, get
from emulator.rtdb.values import parse_path

Value = Any  # the union above; narrowing is what the functions below are for


class Types(Flag):
    """What a value may be, as far as can be told without evaluating."""

    NULL = auto()
    BOOLEAN = auto()
    NUMBER = auto()
    STRING = auto()
    OBJECT = auto()  # an object of the database: opaque
    MAP = auto()  # an object of the token: has members
    SNAPSHOT = auto()
    QUERY = auto()
    REGEX = auto()
    KEYS = auto()


PRIMITIVE = Types.NULL | Types.BOOLEAN | Types.NUMBER | Types.STRING
STORED = PRIMITIVE | Types.OBJECT
CLAIM = PRIMITIVE | Types.MAP
COMPARABLE = STORED | Types.MAP


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A location in one version of the database (RuleDataSnapshot)."""

    root: Node | None
    path: RtdbPath

    @property
    def node(self) -> Node | None:
        return get(self.root, self.path)

    def val(self) -> Value:
        node = self.node
        return node.value if isinstance(node, Leaf) else node

    def child(self, path: str) -> "Snapshot":
        return Snapshot(self.root, self.path + relative_path(path))

    def parent(self) -> "Snapshot":
        if not self.path:
            raise EvaluationError("the root has no parent")
        return Snapshot(self.root, self.path[:-1])

    def has_child(self, path: str) -> bool:
        return self.child(path).exists()

    def has_children(self, keys: list[str] | None = None) -> bool:
        if keys is None:
            return isinstance(self.node, Branch)
        return all(self.has_child(key) for key in keys)

    def exists(self) -> bool:
        return self.node is not None

    def get_priority(self) -> Priority:
        node = self.node
        return None if node is None else node.priority

    def is_number(self) -> bool:
        return _is_number(self.val())

    def is_string(self) -> bool:
        return isinstance(self.val(), str)

    def is_boolean(self) -> bool:
        return isinstance(self.val(), bool)


def relative_path(text: str) -> RtdbPath:
    """The path of child(text). Raises EvaluationError for one that cannot exist."""
    try:
        return parse_path(text)
    except InvalidRequest as error:
        raise EvaluationError(error.message) from error


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def equal(left: Value, right: Value) -> bool:
    """Strict equality: no conversions. An object that val() gives is a new one each time, as in JavaScript."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Branch) or isinstance(right, Branch):
        return False
    if isinstance(left, (dict, list)) or isinstance(right, (dict, list)):
        return left is right
    return bool(left == right)


def compare(operator: str, left: Value, right: Value) -> bool:
    """<, <=, > and >= of two numbers, two strings or two nulls."""
    if left is None and right is None:
        return operator in ("<=", ">=")
    if not (_is_number(left) and _is_number(right)):
        if not (isinstance(left, str) and isinstance(right, str)):
            raise EvaluationError(f"{operator} needs two numbers or two strings")
        # UTF-16 units in big-endian order compare as JavaScript compares strings.
        left, right = left.encode("utf-16-be", "surrogatepass"), right.encode("utf-16-be", "surrogatepass")
    if operator == "<":
        return bool(left < right)
    if operator == "<=":
        return bool(left <= right)
    return bool(left > right) if operator == ">" else bool(left >= right)


def add(left: Value, right: Value) -> Value:
    """The sum of numbers, or the concatenation if one side is a string."""
    for operand in (left, right):
        if not isinstance(operand, str) and not _is_number(operand):
            raise EvaluationError("+ needs numbers or strings")
    if isinstance(left, str) or isinstance(right, str):
        return _text(left) + _text(right)
    return left + right


def arithmetic(operator: str, left: Value, right: Value) -> Value:
    """- * / % as JavaScript computes them."""
    if not (_is_number(left) and _is_number(right)):
        raise EvaluationError(f"{operator} needs numbers")
    try:
        if operator == "-":
            return left - right
        if operator == "*":
            return left * right
        if right == 0:
            return math.nan
        return left / right if operator == "/" else math.fmod(left, right)
    except (OverflowError, ValueError):
        return math.nan


def negate(value: Value) -> Value:
    if not _is_number(value):
        raise EvaluationError("- needs a number")
    return -value


def member(value: Value, name: Value) -> Value:
    """A member of the token, null if there is none; `auth` itself may be null."""
    if isinstance(value, dict) and isinstance(name, str):
        return value.get(name)
    if isinstance(value, list) and isinstance(name, int) and not isinstance(name, bool):
        return value[name] if 0 <= name < len(value) else None
    if isinstance(value, str) and name == "length":
        return length(value)
    return None


def length(text: Value) -> int:
    """The length in UTF-16 units, as in JavaScript."""
    if not isinstance(text, str):
        raise EvaluationError("length needs a string")
    return len(text) if text.isascii() else len(text.encode("utf-16-be", "surrogatepass")) // 2


def string_method(name: str, text: Value, arguments: list[Value]) -> Value:
    """One of the methods of a string. Raises EvaluationError if it is called on anything else."""
    if not isinstance(text, str):
        raise EvaluationError(f"{name}() needs a string")
    if name == "matches":
        pattern: re.Pattern[str] = arguments[0]
        return pattern.search(text) is not None
    if not all(isinstance(argument, str) for argument in arguments):
        raise EvaluationError(f"the arguments of {name}() must be strings")
    if name == "contains":
        return arguments[0] in text
    if name == "beginsWith":
        return text.startswith(arguments[0])
    if name == "endsWith":
        return text.endswith(arguments[0])
    if name == "replace":
        return text.replace(arguments[0], arguments[1])
    return text.lower() if name == "toLowerCase" else text.upper()


def _text(value: str | int | float) -> str:
    """A number as JavaScript writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
        if 1e-6 <= abs(value) < 1e21:
            return format(Decimal(repr(value)), "f")
        return re.sub(r"e([+-])0*", r"e\1", repr(value))
    return str(value)
