"""A loaded set of rules: what may be read and written.

.read and .write cascade: one that is true grants its location and everything below, and nothing below can take it back.
.validate does not: for each location written, every .validate on the way to it and every one below it must be true,
wherever the new data is not null. A removal therefore meets only the .validate rules above it, where something remains.
In a multi-path update, each path is judged against the data as all paths together leave it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.contracts import Json, RtdbPath
from emulator.rtdb.errors import InvalidRequest
from emulator.rtdb.query import Query
from emulator.rtdb.rules.decision import Decision, RuleKind, Step
from emulator.rtdb.rules.errors import EvaluationError, ExpressionError
from emulator.rtdb.rules.parser import parse
from emulator.rtdb.rules.source import Entry, SourceText
from emulator.rtdb.rules.syntax import VARIABLES, Expression
from emulator.rtdb.rules.values import Snapshot, Types
from emulator.rtdb.tree import Branch, Node, get
from emulator.rtdb.values import check_key

LOCKED = '{"rules": {".read": false, ".write": false}}'
"""The rules of a database for which none were given."""

# Variables whose value may differ from one commit to the next.
_CHANGING = frozenset({"root", "data", "newData", "now"})

Auth = Mapping[str, Any] | None
_Scope = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    kind: RuleKind
    path: str
    text: str
    expression: Expression
    depends_on_data: bool

    def evaluate(self, scope: Mapping[str, Any], location: RtdbPath) -> Step:
        """Raises nothing: an expression that fails is false."""
        try:
            result, error = self.expression.evaluate(scope) is True, None
        except EvaluationError as failure:
            result, error = False, str(failure)
        except RecursionError:
            result, error = False, "the rule is too complex"
        return Step(self.kind, self.path, location, self.text, result, error, self.depends_on_data)


@dataclass(slots=True)
class RuleNode:
    """The rules of one location. `validates` is true if a .validate is here or anywhere below."""

    read: Rule | None = None
    write: Rule | None = None
    validate: Rule | None = None
    index_on: frozenset[str] = frozenset()
    children: dict[str, "RuleNode"] = field(default_factory=dict)
    wildcard: str | None = None
    wildcard_node: "RuleNode | None" = None
    validates: bool = False

    def child(self, key: str, scope: _Scope) -> "tuple[RuleNode, _Scope] | None":
        """The rules of a child; a wildcard adds its variable to the scope."""
        node = self.children.get(key)
        if node is not None:
            return node, scope
        if self.wildcard_node is None or self.wildcard is None:
            return None
        return self.wildcard_node, {**scope, self.wildcard: key}


class Ruleset:
    """Use load() to make one. `text` is the file as it was given."""

    def __init__(self, text: str, root: RuleNode) -> None:
        self.text = text
        self._root = root

    def along(self, path: RtdbPath) -> Iterator[tuple[RuleNode, RtdbPath, _Scope]]:
        """The rule nodes on the way to a path, each with its location and the wildcards so far."""
        node, wildcards = self._root, _Scope()
        yield node, (), wildcards
        for depth, key in enumerate(path, start=1):
            found = node.child(key, wildcards)
            if found is None:
                return
            node, wildcards = found
            yield node, path[:depth], wildcards

    def read(
        self, path: RtdbPath, *, root: Node | None, auth: Auth, now_ms: int, query: Query | None = None
    ) -> Decision:
        """Whether a location may be read."""
        base: _Scope = {"auth": auth, "now": now_ms, "root": Snapshot(root, ()), "query": _query_variables(query)}
        steps: list[Step] = []
        for node, location, wildcards in self.along(path):
            if node.read is None:
                continue
            step = node.read.evaluate({**base, **wildcards, "data": Snapshot(root, location)}, location)
            steps.append(step)
            if step.result:
                return Decision("read", path, True, step, tuple(steps))
        return Decision("read", path, False, None, tuple(steps))

    def write(
        self, paths: Sequence[RtdbPath], *, before: Node | None, after: Node | None, auth: Auth, now_ms: int
    ) -> Decision:
        """Whether all of these locations may be written at once; `after` is the data as all of it leaves it."""
        return _Write(before, after, auth, now_ms).decide(self, paths)

    def has_index(self, path: RtdbPath, index: str) -> bool:
        """Whether .indexOn at this very location names the index."""
        found = list(self.along(path))
        return len(found) == len(path) + 1 and index in found[-1][0].index_on


class _Write:
    """One evaluation of a write."""

    def __init__(self, before: Node | None, after: Node | None, auth: Auth, now_ms: int) -> None:
        self._before = before
        self._after = after
        self._base: _Scope = {"auth": auth, "now": now_ms, "root": Snapshot(before, ())}
        self._steps: list[Step] = []
        self._validated: set[RtdbPath] = set()

    def decide(self, rules: Ruleset, paths: Sequence[RtdbPath]) -> Decision:
        granted: Step | None = None
        for path in paths:
            granted = self._granted(rules, path)
            if granted is None:
                return Decision("write", path, False, None, tuple(self._steps))
        for path in paths:
            refused = self._refused(rules, path)
            if refused is not None:
                return Decision("write", path, False, refused, tuple(self._steps))
        return Decision("write", paths[0], True, granted, tuple(self._steps))

    def _evaluate(self, rule: Rule, location: RtdbPath, wildcards: _Scope) -> Step:
        data, new_data = Snapshot(self._before, location), Snapshot(self._after, location)
        step = rule.evaluate({**self._base, **wildcards, "data": data, "newData": new_data}, location)
        self._steps.append(step)
        return step

    def _granted(self, rules: Ruleset, path: RtdbPath) -> Step | None:
        """The .write rule that allows a path."""
        for node, location, wildcards in rules.along(path):
            if node.write is not None:
                step = self._evaluate(node.write, location, wildcards)
                if step.result:
                    return step
        return None

    def _refused(self, rules: Ruleset, path: RtdbPath) -> Step | None:
        """The .validate rule that is not fulfilled: on the way to the path, at it, or below it."""
        for node, location, wildcards in rules.along(path):
            new = get(self._after, location)
            if new is None:
                return None
            step = (
                self._below(node, location, wildcards, new) if location == path else self._at(node, location, wildcards)
            )
            if step is not None:
                return step
        return None

    def _at(self, node: RuleNode, location: RtdbPath, wildcards: _Scope) -> Step | None:
        if node.validate is None or location in self._validated:
            return None
        self._validated.add(location)
        step = self._evaluate(node.validate, location, wildcards)
        return None if step.result else step

    def _below(self, node: RuleNode, location: RtdbPath, wildcards: _Scope, new: Node) -> Step | None:
        if not node.validates:
            return None
        step = self._at(node, location, wildcards)
        if step is not None or not isinstance(new, Branch):
            return step
        for key, child in new.children.items():
            found = node.child(key, wildcards)
            if found is None:
                continue
            step = self._below(found[0], (*location, key), found[1], child)
            if step is not None:
                return step
        return None


def _query_variables(query: Query | None) -> dict[str, Json]:
    if query is None:
        return {"orderByKey": False, "orderByPriority": False, "orderByValue": False}
    start, end = query.start, query.end
    return {
        "orderByKey": query.kind == "key",
        "orderByPriority": query.kind == "priority",
        "orderByValue": query.kind == "value",
        "orderByChild": "/".join(query.child) if query.kind == "child" else None,
        "startAt": start.value if start is not None else None,
        "endAt": end.value if end is not None else None,
        "equalTo": start.value if start is not None and query.equal else None,
        "limitToFirst": None if query.from_end else query.limit,
        "limitToLast": query.limit if query.from_end else None,
    }


def load(text: str) -> Ruleset:
    """Reads a rules file. Raises RulesError for anything that production would not deploy."""
    source = SourceText(text)
    top = source.parse()
    if set(top) != {"rules"}:
        stray = next((entry for key, entry in top.items() if key != "rules"), None)
        raise source.error("The top must have the one key 'rules'.", stray.key_offset if stray else 0)
    return Ruleset(text, _Loader(source).node(top["rules"], "", ()))


class _Loader:
    def __init__(self, source: SourceText) -> None:
        self._source = source

    def node(self, entry: Entry, path: str, wildcards: tuple[str, ...]) -> RuleNode:
        if not isinstance(entry.value, dict):
            raise self._source.error("Rules must be an object.", entry.offset, path)
        node = RuleNode()
        for key, inner in entry.value.items():
            inner_path = f"{path}/{key}"
            if key.startswith("."):
                self._rule(node, key, inner, inner_path, path, wildcards)
            elif key.startswith("$"):
                if node.wildcard is not None:
                    raise self._source.error(
                        f"Cannot have two wildcards ('{node.wildcard}' and '{key}') in one place.",
                        inner.key_offset,
                        inner_path,
                    )
                self._check_wildcard(key, inner, inner_path, wildcards)
                node.wildcard, node.wildcard_node = key, self.node(inner, inner_path, (*wildcards, key))
            else:
                self._check_name(key, inner, inner_path)
                node.children[key] = self.node(inner, inner_path, wildcards)
        below = [*node.children.values(), *([node.wildcard_node] if node.wildcard_node else [])]
        node.validates = node.validate is not None or any(child.validates for child in below)
        return node

    def _rule(self, node: RuleNode, key: str, entry: Entry, path: str, at: str, wildcards: tuple[str, ...]) -> None:
        if key == ".indexOn":
            node.index_on = self._index_on(entry, path)
        elif key == ".read":
            node.read = self._expression(".read", entry, path, at, wildcards)
        elif key == ".write":
            node.write = self._expression(".write", entry, path, at, wildcards)
        elif key == ".validate":
            node.validate = self._expression(".validate", entry, path, at, wildcards)
        else:
            raise self._source.error(f"Unknown kind of rule '{key}'.", entry.key_offset, path)

    def _expression(self, kind: RuleKind, entry: Entry, path: str, at: str, wildcards: tuple[str, ...]) -> Rule:
        text = entry.value
        if isinstance(text, bool):
            text = "true" if text else "false"
        if not isinstance(text, str):
            raise self._source.error(f"{kind} must be a string or a boolean.", entry.offset, path)
        variables = {**VARIABLES, **dict.fromkeys(wildcards, Types.STRING)}
        if kind == ".read":
            variables["query"] = Types.QUERY
        else:
            variables["newData"] = Types.SNAPSHOT
        try:
            expression, used = parse(text, variables)
            return Rule(kind, at, text, expression, not used.isdisjoint(_CHANGING))
        except RecursionError as error:
            raise self._source.error("The rule is nested too deeply.", entry.offset, path) from error
        except ExpressionError as error:
            in_string = isinstance(entry.value, str)
            offset = self._source.expression_offset(entry, error.offset) if in_string else entry.offset
            raise self._source.error(error.message, offset, path) from error

    def _index_on(self, entry: Entry, path: str) -> frozenset[str]:
        names = [entry.value] if isinstance(entry.value, str) else entry.value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._source.error(".indexOn must be a string or an array of strings.", entry.offset, path)
        for name in names:
            if name == ".value":
                continue
            try:
                for segment in name.strip("/").split("/"):
                    check_key(segment)
            except InvalidRequest as error:
                raise self._source.error(f"Invalid path '{name}' in .indexOn.", entry.offset, path) from error
        return frozenset(name.strip("/") for name in names)

    def _check_wildcard(self, key: str, entry: Entry, path: str, wildcards: tuple[str, ...]) -> None:
        name = key[1:]
        if not (name.isascii() and name.replace("_", "a").isalnum()):
            raise self._source.error(f"Invalid wildcard '{key}'.", entry.key_offset, path)
        if key in wildcards:
            raise self._source.error(f"The wildcard '{key}' is already used further up.", entry.key_offset, path)

    def _check_name(self, key: str, entry: Entry, path: str) -> None:
        try:
            check_key(key)
        except InvalidRequest as error:
            raise self._source.error(f"Invalid key '{key}'.", entry.key_offset, path) from error
