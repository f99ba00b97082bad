"""A bounded number of seeds, and that they would find something: see docs/simulation.md."""

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from chaos.__main__ import simulate
from chaos.instances import MakeLedger, build_ledger
from chaos.network import Network
from chaos.points import JOURNEY_POINTS, LEDGER_POINTS, TESTED_IN, aim_of, find_points
from chaos.simulation import SimulationFailure, run_seed

from concierge.ledger.repository import (
    AccountRead,
    Change,
    Hold,
    LedgerRepository,
    account_to_document,
    entry_to_document,
)
from concierge.ledger.reservations import Resolution
from concierge.ledger.service import Ledger

TESTS = Path(__file__).resolve().parent.parent
SEEDS = range(1, 46)
SABOTAGE_SEEDS = range(1, 61)


@pytest.mark.parametrize("point", LEDGER_POINTS)
def test_seeds_find_nothing(network: Network, point: str) -> None:
    """Those of the suite that aim at this point: an instance dies there, and the auditor finds nothing."""
    crashes: Counter[str] = Counter()
    for seed in SEEDS:
        if aim_of(seed) == point:
            crashes += run_seed(seed, network).crashes
    assert crashes[point] > 0, f"no seed crashed at {point}"


def test_every_fault_point_is_simulated() -> None:
    """A new one has to be added to points.py, and some operation has to come there, or some test crash there."""
    found = {name for name, _ in find_points()}
    assert found >= {*LEDGER_POINTS, *JOURNEY_POINTS}
    for point in found - {*LEDGER_POINTS, *JOURNEY_POINTS}:
        step, _, moment = point.partition(".")
        assert step in TESTED_IN, f"{point} is simulated by nobody"
        text = (TESTS / TESTED_IN[step]).read_text(encoding="utf-8")
        assert "CONCIERGE_FAULT" in text
        assert re.search(rf"\b{moment}\b", text), f"{TESTED_IN[step]} does not crash at {point}"


@pytest.mark.parametrize("seed", [3, 8])
def test_a_seed_replays_exactly(network: Network, seed: int) -> None:
    """Call by call, answer by answer, and to the last byte of every entry."""
    first, second = run_seed(seed, network), run_seed(seed, network)
    assert first == second
    assert first.calls > 20


class WithoutConditions(LedgerRepository):
    """Commits whatever has changed since it was read."""

    def commit(self, *steps: tuple[AccountRead, Change]) -> None:
        batch = self.client.batch()
        for read, change in steps:
            if change.entry is not None and change.head is not None:
                batch.set(self.entry_reference(read.uid, change.head.seq), entry_to_document(change.entry))
                batch.set(read.account_snapshot.reference, account_to_document(read.uid, change.head))
            batch.set(read.record_snapshot.reference, change.record)
        batch.commit()


class WithoutFences(Ledger):
    """Lets every run settle, whoever has taken over."""

    def capture(self, *arguments: Any, fence: int | None = None, **options: Any) -> Resolution:
        return super().capture(*arguments, **options)

    def release(self, *arguments: Any, fence: int | None = None, **options: Any) -> Resolution:
        return super().release(*arguments, **options)


class WithoutSweep(Ledger):
    """Never finds a hold whose time is up."""

    def due_holds(self, limit: int) -> list[Hold]:
        return super().due_holds(limit)[:0]


class WithoutLateness(Ledger):
    """Captures as if no time had passed since the hold was placed."""

    def capture(self, uid: str, hold_id: str, *arguments: Any, **options: Any) -> Resolution:
        hold, now = self.find_hold(uid, hold_id), self._appender.now
        if hold is not None:
            self._appender.now = lambda: hold.placed_at
        try:
            return super().capture(uid, hold_id, *arguments, **options)
        finally:
            self._appender.now = now


def of(kind: type[Ledger], repository: type[LedgerRepository] = LedgerRepository) -> MakeLedger:
    def make(client: Any, ledger_id: str, now: Callable[[], datetime]) -> Ledger:
        return build_ledger(kind, repository(client), ledger_id, now)

    return make


@pytest.mark.parametrize(
    "make",
    [of(Ledger, WithoutConditions), of(WithoutFences), of(WithoutSweep), of(WithoutLateness)],
    ids=["conditions", "fences", "sweep", "lateness"],
)
def test_a_broken_ledger_is_found(network: Network, make: MakeLedger) -> None:
    """Within the seeds of the suite, and the message says how to replay it."""
    with pytest.raises(SimulationFailure) as failure:
        for seed in SABOTAGE_SEEDS:
            run_seed(seed, network, make)
    seed = failure.value.seed
    assert f"make simulate SEED={seed}" in str(failure.value)
    assert "calls, as they were sent" in str(failure.value)
    with pytest.raises(SimulationFailure) as again:
        run_seed(seed, network, make)
    assert str(again.value) == str(failure.value)


@pytest.mark.parametrize(("make", "failed"), [(of(Ledger), []), (of(WithoutSweep), [1, 2])], ids=["sound", "broken"])
def test_the_runner_sums_up(capsys: pytest.CaptureFixture[str], make: MakeLedger, failed: list[int]) -> None:
    assert simulate(range(1, 3), float("inf"), is_single=False, make=make) == bool(failed)
    told = capsys.readouterr().out
    figures = json.loads(told.splitlines()[-1])
    assert (figures["seeds"], figures["failed"]) == (2, failed)
    assert all(f"Replay it with: make simulate SEED={seed}" in told for seed in failed)
    if not failed:
        assert figures["operations"] > 40
        assert 0 < figures["shareInFirestore"] < 1
        assert figures["points"]["commit.before"] > 20
