"""The pure state without a server: queries against a naive model, snapshots, locks."""

import asyncio
import operator
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.clock import Clock
from emulator.firestore import store as store_module
from emulator.firestore.errors import FailedPrecondition
from emulator.firestore.locks import LockTable, Outcome, Owner
from emulator.firestore.protocol import StructuredQuery, Write
from emulator.firestore.query import compile_query
from emulator.firestore.store import DocumentStore, Selection, Snapshot
from emulator.firestore.writes import plan
from emulator.persistence import Store

ROOT = "projects/p/databases/(default)/documents"


def commit(store: DocumentStore, *writes: Any) -> int:
    commit_us = store.commit_us()
    store.apply(plan(store, writes, commit_us).changes, commit_us)
    return commit_us


def setting(path: str, **fields: int | str | None) -> Any:
    write = Write()
    write.update.name = f"{ROOT}/{path}"
    for name, value in fields.items():
        if value is None:
            write.update.fields[name].null_value = 0
        elif isinstance(value, int):
            write.update.fields[name].integer_value = value
        else:
            write.update.fields[name].string_value = value
    return write


def deleting(path: str) -> Any:
    return Write(delete=f"{ROOT}/{path}")


@pytest.fixture
def store() -> DocumentStore:
    return DocumentStore(Clock(), Store(None))


FIELDS = ("a", "b")
field_values = st.one_of(st.none(), st.integers(-2, 2), st.sampled_from(["", "x", "y"]))
contents = st.dictionaries(st.sampled_from(FIELDS), field_values)
comparisons = {
    StructuredQuery.FieldFilter.LESS_THAN: operator.lt,
    StructuredQuery.FieldFilter.LESS_THAN_OR_EQUAL: operator.le,
    StructuredQuery.FieldFilter.GREATER_THAN: operator.gt,
    StructuredQuery.FieldFilter.GREATER_THAN_OR_EQUAL: operator.ge,
    StructuredQuery.FieldFilter.EQUAL: operator.eq,
    StructuredQuery.FieldFilter.NOT_EQUAL: operator.ne,
}
filters = st.tuples(
    st.sampled_from(FIELDS), st.sampled_from(sorted(comparisons)), st.one_of(st.integers(-2, 2), st.just("x"))
)
orders = st.lists(st.tuples(st.sampled_from(FIELDS), st.booleans()), max_size=2, unique_by=lambda order: order[0])


def model_rank(value: Any) -> tuple[int, Any]:
    return (0, 0) if value is None else (1, value) if isinstance(value, int) else (2, value)


def model_run(
    documents: dict[str, dict[str, Any]],
    wanted: list[tuple[str, int, Any]],
    order: list[tuple[str, bool]],
    offset: int,
    limit: int,
) -> list[str]:
    """A query in the plainest words."""
    inequalities = sorted({field for field, op, _ in wanted if op != StructuredQuery.FieldFilter.EQUAL})
    direction = order[-1][1] if order else False
    known = [field for field, _ in order]
    full = [*order, *((field, direction) for field in inequalities if field not in known)]
    found = []
    for name, fields in documents.items():
        if not all(field in fields for field, _ in full):
            continue
        if all(model_matches(fields, *each) for each in wanted):
            found.append(name)
    found.sort(reverse=direction)
    for field, descending in reversed(full):
        found.sort(key=lambda name, field=field: model_rank(documents[name][field]), reverse=descending)
    return found[offset : offset + limit]


def model_matches(fields: dict[str, Any], field: str, op: int, operand: Any) -> bool:
    if fields.get(field) is None:
        return False
    same_type = model_rank(fields[field])[0] == model_rank(operand)[0]
    if op == StructuredQuery.FieldFilter.NOT_EQUAL:
        return not same_type or fields[field] != operand
    return same_type and comparisons[op](fields[field], operand)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.text("abcé", min_size=1, max_size=2), contents, max_size=8),
    st.lists(filters, max_size=2),
    orders,
    st.integers(0, 3),
    st.integers(0, 8),
)
def test_queries_agree_with_a_naive_model(
    documents: dict[str, dict[str, Any]],
    wanted: list[tuple[str, int, Any]],
    order: list[tuple[str, bool]],
    offset: int,
    limit: int,
) -> None:
    store = DocumentStore(Clock(), Store(None))
    commit(store, *(setting(f"c/{name}", **fields) for name, fields in documents.items()), setting("d/other", a=1))
    query = StructuredQuery(offset=offset)
    getattr(query, "from").add(collection_id="c")
    query.limit.value = limit
    query.where.composite_filter.op = StructuredQuery.CompositeFilter.AND
    for field, op, operand in wanted:
        part = query.where.composite_filter.filters.add().field_filter
        part.field.field_path = field
        part.op = op
        if isinstance(operand, int):
            part.value.integer_value = operand
        else:
            part.value.string_value = operand
    for field, descending in order:
        added = query.order_by.add()
        added.field.field_path = field
        added.direction = StructuredQuery.DESCENDING if descending else StructuredQuery.ASCENDING
    compiled = compile_query(ROOT, query)
    expected = model_run(documents, wanted, order, offset, limit)
    assert [document.name.id for document in compiled.run(store)] == expected
    snapshot = store.snapshot()
    commit(store, *(deleting(f"c/{name}") for name in documents), setting("c/new", a=1, b=1))
    assert [document.name.id for document in compiled.run(snapshot)] == expected


paths = st.sampled_from(["c/1", "c/2", "c/1/s/1", "c/3/s/1", "s/1"])
steps = st.lists(st.tuples(paths, st.one_of(st.none(), st.integers(0, 3))), max_size=25)


def seen(view: DocumentStore | Snapshot, path: str) -> int | None:
    document = view.get(f"{ROOT}/{path}")
    return None if document is None else document.message.fields["n"].integer_value


@settings(deadline=None)
@given(steps, st.integers(1, 4))
def test_a_snapshot_never_changes(history: list[tuple[str, int | None]], kept: int) -> None:
    store = DocumentStore(Clock(), Store(None))
    names = ["c/1", "c/2", "c/1/s/1", "c/3/s/1", "s/1"]
    # A short memory makes it trim in the middle of the test.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "HISTORY_ENTRIES_MAX", kept)
        moments: list[tuple[Snapshot, dict[str, int | None]]] = []
        for path, value in history:
            commit(store, deleting(path) if value is None else setting(path, n=value))
            moments.append((store.snapshot(), {name: seen(store, name) for name in names}))
        for snapshot, expected in moments:
            assert {name: seen(snapshot, name) for name in names} == expected
            selected = {document.name.name for document in snapshot.select(Selection(ROOT, "s", all_descendants=True))}
            there = {f"{ROOT}/{name}" for name in names if "s/1" in name and expected[name] is not None}
            assert selected == there


def test_the_past_ends_where_the_memory_ends(store: DocumentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "HISTORY_ENTRIES_MAX", 3)
    times = [commit(store, setting("c/1", n=number)) for number in range(10)]
    with pytest.raises(FailedPrecondition):
        store.snapshot(times[0])
    assert seen(store.snapshot(times[8]), "c/1") == 8


@settings(deadline=None)
@given(steps)
def test_the_indexes_agree_with_the_documents(history: list[tuple[str, int | None]]) -> None:
    store = DocumentStore(Clock(), Store(None))
    for path, value in history:
        commit(store, deleting(path) if value is None else setting(path, n=value))
    present = {name.removeprefix(ROOT + "/") for name in store.documents()}
    assert set(store.collection_ids(ROOT)) == {path.split("/")[0] for path in present}
    parents = {path.split("/")[1] for path in present if path.startswith("c/") and path.count("/") == 3}
    assert set(store.missing_ids(f"{ROOT}/c")) == {name for name in parents if f"c/{name}" not in present}
    group = [document.segments for document in store.select(Selection(ROOT, "s", all_descendants=True))]
    assert group == sorted(tuple(path.split("/")) for path in present if path.split("/")[-2] == "s")
    # What has been emptied leaves nothing behind.
    for path in present:
        commit(store, deleting(path))
    assert not store._collections and not store._children and not store._documents


class Giver(Owner):
    """An owner that may lose its locks, as a transaction may."""

    def __init__(self, seniority: int, table: LockTable) -> None:
        super().__init__(seniority)
        self.table = table

    @property
    def can_lose(self) -> bool:
        return True

    def lose(self) -> None:
        self.table.release_all(self)


@pytest.fixture
def table() -> Iterator[LockTable]:
    table = LockTable()
    yield table
    assert not table._holders and not table._queues, "a lock was left behind"


async def queued(table: LockTable, owner: Owner, *keys: str) -> "asyncio.Task[Outcome]":
    task = asyncio.create_task(table.acquire(owner, keys, 60))
    for _ in range(3):
        await asyncio.sleep(0)
    return task


def test_a_lock_goes_to_the_most_senior_waiter(table: LockTable) -> None:
    async def scenario() -> None:
        owners = [Giver(number, table) for number in range(4)]
        holder, late, early, middle = owners[1], owners[3], owners[0], owners[2]
        assert await table.acquire(holder, ["k"], 60) is Outcome.GRANTED
        tasks = {owner: await queued(table, owner, "k") for owner in (late, early, middle)}
        for current, following in ((holder, early), (early, middle), (middle, late)):
            table.release_all(current)
            assert await tasks[following] is Outcome.GRANTED
        table.release_all(late)

    asyncio.run(scenario())


def test_the_youngest_in_a_circle_gives_way(table: LockTable) -> None:
    async def scenario() -> None:
        owners = [Giver(number, table) for number in range(3)]
        for index, owner in enumerate(owners):
            await table.acquire(owner, [f"k{index}"], 60)
        # The circle 0 -> 1 -> 2 -> 0 is closed by the one in the middle.
        first = await queued(table, owners[0], "k1")
        last = await queued(table, owners[2], "k0")
        middle = await queued(table, owners[1], "k2")
        assert await last is Outcome.LOST
        assert await middle is Outcome.GRANTED
        assert not first.done()
        table.release_all(owners[1])
        assert await first is Outcome.GRANTED
        table.release_all(owners[0])

    asyncio.run(scenario())


def test_a_wait_times_out_and_leaves_the_queue(table: LockTable) -> None:
    async def scenario() -> None:
        holder, impatient, patient = (Giver(number, table) for number in range(3))
        await table.acquire(holder, ["k"], 60)
        behind = await queued(table, patient, "k")
        assert await table.acquire(impatient, ["free", "k"], 0.01) is Outcome.TIMEOUT
        assert impatient.held == {"free"}
        table.release_all(impatient)
        table.release_all(holder)
        assert await behind is Outcome.GRANTED
        table.release_all(patient)

    asyncio.run(scenario())


@pytest.mark.parametrize("granted_first", [False, True])
def test_a_cancelled_wait_leaves_nothing(table: LockTable, granted_first: bool) -> None:
    async def scenario() -> None:
        holder, leaver = Giver(0, table), Giver(1, table)
        await table.acquire(holder, ["k"], 60)
        task = await queued(table, leaver, "k")
        if granted_first:
            table.release_all(holder)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        table.release_all(leaver)
        table.release_all(holder)

    asyncio.run(scenario())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True), min_size=2, max_size=8))
def test_whatever_the_order_of_locks_everybody_ends(wishes: list[list[str]]) -> None:
    """Any order of acquisition: no deadlock stays, and no lock has two holders."""

    async def scenario() -> int:
        table = LockTable()
        inside: dict[str, int] = {}

        async def work(number: int, keys: list[str]) -> None:
            owner = Giver(number, table)
            for _ in range(100):
                outcome = Outcome.GRANTED
                for key in keys:
                    outcome = await table.acquire(owner, [key], 60)
                    await asyncio.sleep(0)
                    if outcome is not Outcome.GRANTED or key not in owner.held:
                        outcome = Outcome.LOST
                        break
                if outcome is Outcome.GRANTED and set(keys) <= owner.held:
                    for key in keys:
                        assert inside.setdefault(key, number) == number
                    for key in keys:
                        del inside[key]
                    table.release_all(owner)
                    return
                table.release_all(owner)
            raise AssertionError("never got all its locks")

        await asyncio.wait_for(asyncio.gather(*(work(*each) for each in enumerate(wishes))), 60)
        return len(table._holders) + len(table._queues)

    assert asyncio.run(scenario()) == 0
