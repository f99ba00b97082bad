"""The state of the service: databases by namespace, what may be done to them, who is told.

Everything here is synchronous, hence atomic on the event loop. The order of a commit: check the rules, write the rows,
replace the root, tell the watches of this database, tell the listeners of the service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from emulator.clock import Clock
from emulator.contracts import Json, RtdbChange, RtdbListener, RtdbPath
from emulator.persistence import Store
from emulator.rtdb import hashing, storage, tree
from emulator.rtdb.credentials import Credentials
from emulator.rtdb.errors import EtagMismatch, InvalidRequest, PermissionDenied
from emulator.rtdb.push_ids import PushIds
from emulator.rtdb.query import Query
from emulator.rtdb.rules.decision import Decision, path_text
from emulator.rtdb.rules.ruleset import Ruleset
from emulator.rtdb.tree import Node, TreeSnapshot
from emulator.rtdb.values import Builder, check_depth, parse_path
from emulator.rtdb.watches import Commit, Watch, WatchIndex

PRIORITY = ".priority"
"""The last segment of a path that means the priority of the location before it."""


@dataclass(frozen=True, slots=True)
class Location:
    """What a call is about: a path, or its priority."""

    path: RtdbPath
    is_priority: bool = False


def parse_location(text: str) -> Location:
    """The location of "/a/b" or "/a/b/.priority". Raises InvalidRequest."""
    if text.endswith(PRIORITY) and (text == PRIORITY or text[: -len(PRIORITY)].endswith("/")):
        return Location(parse_path(text[: -len(PRIORITY)]), is_priority=True)
    return Location(parse_path(text))


class Database:
    """One namespace: the current version and the watches."""

    def __init__(self, root: Node | None) -> None:
        self.root = root
        self.watches = WatchIndex()
        # Watches whose permission depends on data are asked again after every commit, wherever it happened.
        self.watches_on_data: set[Watch] = set()


class Databases:
    """All databases of the service. The operations raise the errors of emulator.rtdb.errors."""

    def __init__(self, *, clock: Clock, store: Store, rules: Ruleset) -> None:
        self.listeners: list[RtdbListener] = []
        self._clock = clock
        self._store = store
        self._rules = rules
        self._push_ids = PushIds()
        loaded = storage.load(store.rows(storage.SERVICE))
        self._databases = {namespace: Database(root) for namespace, root in loaded.items()}

    @property
    def rules(self) -> Ruleset:
        return self._rules

    def set_rules(self, rules: Ruleset) -> None:
        """Replaces the rules; watches that they no longer allow are revoked."""
        self._rules = rules
        for database in self._databases.values():
            watches = list(database.watches)
            for watch in watches:
                self._recheck(database, watch)

    def root(self, namespace: str) -> Node | None:
        """The current version, without asking the rules."""
        database = self._databases.get(namespace)
        return None if database is None else database.root

    def read(
        self, namespace: str, path: RtdbPath, credentials: Credentials, *, query: Query | None = None
    ) -> Node | None:
        """What is at a location; the selection of the query if there is one."""
        root = self.root(namespace)
        self._require_read(root, path, credentials, query)
        node = tree.get(root, path)
        return node if query is None else query.apply(node)

    def set(
        self, namespace: str, location: Location, value: Json, credentials: Credentials, *, if_match: str | None = None
    ) -> Node | None:
        """Replaces a location (null removes), or its priority. Returns what is there now.

        With `if_match`, only if the location still has that ETag; EtagMismatch otherwise.
        """
        now_ms = self._clock.now_ms()
        root = self.root(namespace)
        current = tree.get(root, location.path)
        if if_match is not None and hashing.etag(current) != if_match:
            # Whoever may not read must not learn the data from a conflict.
            self._require_read(root, location.path, credentials, None)
            raise EtagMismatch(current)
        new = self._new_node(location, value, current, now_ms)
        self._apply(namespace, "set", location.path, {location.path: new}, credentials, now_ms)
        return new

    def update(
        self, namespace: str, base: RtdbPath, values: Mapping[str, Json], credentials: Credentials
    ) -> dict[str, Node | None]:
        """Replaces several locations below `base` at once; the keys are paths. Returns what is at each now."""
        now_ms = self._clock.now_ms()
        root = self.root(namespace)
        new: dict[RtdbPath, Node | None] = {}
        answered: dict[str, Node | None] = {}
        for text, value in values.items():
            below = parse_location(text)
            location = Location(base + below.path, below.is_priority)
            if not below.path and not below.is_priority:
                raise InvalidRequest("Invalid path: Invalid token in path")
            check_depth(len(location.path))
            if location.path in new:
                raise InvalidRequest(f"Path '{text}' appears more than once in one update")
            node = self._new_node(location, value, tree.get(root, location.path), now_ms)
            new[location.path] = answered[text] = node
        _refuse_overlaps(new)
        if new:
            self._apply(namespace, "update", base, new, credentials, now_ms)
        return answered

    def push(self, namespace: str, path: RtdbPath, value: Json, credentials: Credentials) -> str:
        """Adds a child under a new key that sorts after all earlier ones; returns the key."""
        key = self._push_ids.next(self._clock.now_ms())
        check_depth(len(path) + 1)
        self.set(namespace, Location((*path, key)), value, credentials)
        return key

    def watch(self, namespace: str, watch: Watch) -> Node | None:
        """Starts a watch; returns what it sees first. Raises PermissionDenied, or InvalidRequest without an index."""
        database = self._databases.setdefault(namespace, Database(None))
        decision = self._require_read(database.root, watch.path, watch.credentials, watch.query)
        database.watches.add(watch)
        self._note_dependence(database, watch, decision)
        node = tree.get(database.root, watch.path)
        return node if watch.query is None else watch.query.apply(node)

    def unwatch(self, namespace: str, watch: Watch) -> None:
        """Ends a watch; does nothing if it has ended."""
        self._forget(self._databases[namespace], watch)

    def _require_read(
        self, root: Node | None, path: RtdbPath, credentials: Credentials, query: Query | None
    ) -> Decision | None:
        decision = None
        if not credentials.admin:
            now_ms = self._clock.now_ms()
            decision = self._rules.read(path, root=root, auth=credentials.auth, now_ms=now_ms, query=query)
            if not decision.allowed:
                raise PermissionDenied(decision)
        # Production asks for the index over REST whoever calls, administrators included.
        if query is not None and query.index is not None and not self._rules.has_index(path, query.index):
            raise InvalidRequest(
                f'Index not defined, add ".indexOn": "{query.index}", for path "{path_text(path)}", to the rules'
            )
        return decision

    def _new_node(self, location: Location, value: Json, current: Node | None, now_ms: int) -> Node | None:
        builder = Builder(now_ms)
        if location.is_priority:
            return tree.with_priority(current, builder.priority(value, current))
        return builder.node(value, depth=len(location.path), existing=current)

    def _apply(
        self,
        namespace: str,
        kind: Literal["set", "update"],
        base: RtdbPath,
        new: Mapping[RtdbPath, Node | None],
        credentials: Credentials,
        now_ms: int,
    ) -> None:
        before = after = self.root(namespace)
        for path, node in new.items():
            after = tree.put(after, path, node)
        if not credentials.admin:
            decision = self._rules.write(tuple(new), before=before, after=after, auth=credentials.auth, now_ms=now_ms)
            if not decision.allowed:
                raise PermissionDenied(decision)
        # What is as it was is no change: nothing to store, nobody to tell.
        changed = tuple(path for path, node in new.items() if not tree.same(tree.get(before, path), node))
        if not changed:
            return
        if self._store.durable:
            rows = storage.RowChanges(namespace)
            for path in changed:
                rows.add(path, before, after)
            rows.write(self._store)
        database = self._databases.setdefault(namespace, Database(None))
        database.root = after
        self._publish(namespace, database, Commit(kind, base, changed, before, after), credentials, now_ms)

    def _publish(
        self, namespace: str, database: Database, commit: Commit, credentials: Credentials, now_ms: int
    ) -> None:
        for watch in tuple(database.watches_on_data):
            self._recheck(database, watch)
        for watch in database.watches.touched(commit.paths):
            watch.on_commit(commit)
        if not self.listeners:
            return
        change = RtdbChange(
            namespace=namespace,
            paths=commit.paths,
            before=TreeSnapshot(commit.before),
            after=TreeSnapshot(commit.after),
            auth_type=credentials.auth_type,
            auth_id=credentials.auth_id,
            at_ms=now_ms,
        )
        for listener in tuple(self.listeners):
            listener(change)

    def _recheck(self, database: Database, watch: Watch) -> None:
        try:
            decision = self._require_read(database.root, watch.path, watch.credentials, watch.query)
        except (PermissionDenied, InvalidRequest):
            self._forget(database, watch)
            watch.on_revoked()
        else:
            self._note_dependence(database, watch, decision)

    def _note_dependence(self, database: Database, watch: Watch, decision: Decision | None) -> None:
        if decision is not None and decision.decisive is not None and decision.decisive.depends_on_data:
            database.watches_on_data.add(watch)
        else:
            database.watches_on_data.discard(watch)

    def _forget(self, database: Database, watch: Watch) -> None:
        database.watches.remove(watch)
        database.watches_on_data.discard(watch)


def _refuse_overlaps(paths: Mapping[RtdbPath, object]) -> None:
    """Raises InvalidRequest if one path of an update is above another: their order would decide the outcome."""
    for path in paths:
        for depth in range(len(path)):
            if path[:depth] in paths:
                raise InvalidRequest(f"Path '{path_text(path[:depth])}' is an ancestor of '{path_text(path)}'")
