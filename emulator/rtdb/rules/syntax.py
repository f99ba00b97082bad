"""The syntax tree of an expression. Every node knows what it may evaluate to and how to evaluate itself.

`evaluate` raises EvaluationError for a type error; && || and ?: evaluate only what they need.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from emulator.rtdb.rules import values
from emulator.rtdb.rules.errors import EvaluationError
from emulator.rtdb.rules.values import CLAIM, PRIMITIVE, STORED, Snapshot, Types, Value

Scope = Mapping[str, Value]
"""The variables of one evaluation: auth, now, root, data, newData (writes), query (reads) and the wildcards."""


class Expression(Protocol):
    @property
    def types(self) -> Types: ...

    @property
    def offset(self) -> int: ...

    def evaluate(self, scope: Scope) -> Value: ...


@dataclass(frozen=True, slots=True)
class Literal:
    value: Value
    types: Types
    offset: int

    def evaluate(self, scope: Scope) -> Value:
        return self.value


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    types: Types
    offset: int

    def evaluate(self, scope: Scope) -> Value:
        return scope[self.name]


@dataclass(frozen=True, slots=True)
class Member:
    """`target.name` or `target[name]` of the token, of the query, or the length of a string."""

    target: Expression
    name: Expression
    types: Types
    offset: int

    def evaluate(self, scope: Scope) -> Value:
        target, name = self.target.evaluate(scope), self.name.evaluate(scope)
        if self.types == Types.NUMBER and name == "length":
            return values.length(target)
        return values.member(target, name)


@dataclass(frozen=True, slots=True)
class KeyList:
    """The array that hasChildren takes."""

    items: tuple[Expression, ...]
    offset: int
    types: Types = Types.KEYS

    def evaluate(self, scope: Scope) -> list[str]:
        return [_string(item.evaluate(scope)) for item in self.items]


@dataclass(frozen=True, slots=True)
class RegexLiteral:
    pattern: re.Pattern[str]
    offset: int
    types: Types = Types.REGEX

    def evaluate(self, scope: Scope) -> re.Pattern[str]:
        return self.pattern


@dataclass(frozen=True, slots=True)
class SnapshotCall:
    target: Expression
    method: "SnapshotMethod"
    arguments: tuple[Expression, ...]
    offset: int
    types: Types = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", self.method.result)

    def evaluate(self, scope: Scope) -> Value:
        target = self.target.evaluate(scope)
        assert isinstance(target, Snapshot)
        arguments = [argument.evaluate(scope) for argument in self.arguments]
        if self.method.takes_path:
            _string(arguments[0])
        return getattr(target, self.method.attribute)(*arguments)


@dataclass(frozen=True, slots=True)
class StringCall:
    target: Expression
    name: str
    arguments: tuple[Expression, ...]
    types: Types
    offset: int

    def evaluate(self, scope: Scope) -> Value:
        arguments = [argument.evaluate(scope) for argument in self.arguments]
        return values.string_method(self.name, self.target.evaluate(scope), arguments)


@dataclass(frozen=True, slots=True)
class Not:
    operand: Expression
    offset: int
    types: Types = Types.BOOLEAN

    def evaluate(self, scope: Scope) -> bool:
        return not _boolean(self.operand.evaluate(scope))


@dataclass(frozen=True, slots=True)
class Negate:
    operand: Expression
    offset: int
    types: Types = Types.NUMBER

    def evaluate(self, scope: Scope) -> Value:
        return values.negate(self.operand.evaluate(scope))


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: Expression
    right: Expression
    types: Types
    offset: int

    def evaluate(self, scope: Scope) -> Value:
        left, right = self.left.evaluate(scope), self.right.evaluate(scope)
        if self.operator in ("==", "==="):
            return values.equal(left, right)
        if self.operator in ("!=", "!=="):
            return not values.equal(left, right)
        if self.operator == "+":
            return values.add(left, right)
        if self.operator in ("-", "*", "/", "%"):
            return values.arithmetic(self.operator, left, right)
        return values.compare(self.operator, left, right)


@dataclass(frozen=True, slots=True)
class Logical:
    """A chain of && or of ||."""

    operator: str
    operands: tuple[Expression, ...]
    offset: int
    types: Types = Types.BOOLEAN

    def evaluate(self, scope: Scope) -> bool:
        decisive = self.operator == "||"
        decided = any(_boolean(operand.evaluate(scope)) is decisive for operand in self.operands)
        return decisive if decided else not decisive


@dataclass(frozen=True, slots=True)
class Conditional:
    condition: Expression
    chosen: Expression
    otherwise: Expression
    offset: int
    types: Types = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", self.chosen.types | self.otherwise.types)

    def evaluate(self, scope: Scope) -> Value:
        branch = self.chosen if _boolean(self.condition.evaluate(scope)) else self.otherwise
        return branch.evaluate(scope)


@dataclass(frozen=True, slots=True)
class SnapshotMethod:
    attribute: str
    parameters: tuple[Types, ...]
    result: Types
    optional: bool = False
    takes_path: bool = False


SNAPSHOT_METHODS: Mapping[str, SnapshotMethod] = {
    "val": SnapshotMethod("val", (), STORED),
    "child": SnapshotMethod("child", (Types.STRING,), Types.SNAPSHOT, takes_path=True),
    "parent": SnapshotMethod("parent", (), Types.SNAPSHOT),
    "hasChild": SnapshotMethod("has_child", (Types.STRING,), Types.BOOLEAN, takes_path=True),
    "hasChildren": SnapshotMethod("has_children", (Types.KEYS,), Types.BOOLEAN, optional=True),
    "exists": SnapshotMethod("exists", (), Types.BOOLEAN),
    "getPriority": SnapshotMethod("get_priority", (), Types.NULL | Types.NUMBER | Types.STRING),
    "isNumber": SnapshotMethod("is_number", (), Types.BOOLEAN),
    "isString": SnapshotMethod("is_string", (), Types.BOOLEAN),
    "isBoolean": SnapshotMethod("is_boolean", (), Types.BOOLEAN),
}

STRING_METHODS: Mapping[str, tuple[tuple[Types, ...], Types]] = {
    "contains": ((Types.STRING,), Types.BOOLEAN),
    "beginsWith": ((Types.STRING,), Types.BOOLEAN),
    "endsWith": ((Types.STRING,), Types.BOOLEAN),
    "replace": ((Types.STRING, Types.STRING), Types.STRING),
    "toLowerCase": ((), Types.STRING),
    "toUpperCase": ((), Types.STRING),
    "matches": ((Types.REGEX,), Types.BOOLEAN),
}

QUERY_MEMBERS: Mapping[str, Types] = {
    "orderByKey": Types.BOOLEAN,
    "orderByPriority": Types.BOOLEAN,
    "orderByValue": Types.BOOLEAN,
    "orderByChild": Types.NULL | Types.STRING,
    "startAt": PRIMITIVE,
    "endAt": PRIMITIVE,
    "equalTo": PRIMITIVE,
    "limitToFirst": Types.NULL | Types.NUMBER,
    "limitToLast": Types.NULL | Types.NUMBER,
}

VARIABLES: Mapping[str, Types] = {
    "auth": CLAIM,
    "now": Types.NUMBER,
    "root": Types.SNAPSHOT,
    "data": Types.SNAPSHOT,
}


def _boolean(value: Value) -> bool:
    if not isinstance(value, bool):
        raise EvaluationError("a boolean is needed")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise EvaluationError("a string is needed")
    return value
