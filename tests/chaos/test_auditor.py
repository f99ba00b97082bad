"""The auditor finds what is wrong: a sound seed, then one thing changed in what is stored or in what was answered."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from chaos.calls import Answer, Call
from chaos.instances import make_ledger
from chaos.network import Network
from chaos.simulation import Simulation


@dataclass
class Evidence:
    """What an audit goes by."""

    simulation: Simulation
    calls: list[Call]
    documents: dict[str, dict[str, Any]]

    def audit(self) -> list[str]:
        return self.simulation.auditor.audit(self.calls, self.documents, is_settled=True)

    def some(self, kind: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> str:
        """The path of a document of this kind that is as wanted."""
        return next(path for path, found in sorted(self.documents.items()) if f"/{kind}/" in path and wanted(found))

    def head(self) -> dict[str, Any]:
        return self.documents["accounts/alice"]

    def answered(self, action: str, said: str) -> Call:
        return next(call for call in self.calls if call.action == action and call.answer and call.answer.said == said)


@pytest.fixture(scope="module")
def sound(network: Network) -> Iterator[Evidence]:
    """The first seed in which everything happens that is changed below."""
    for seed in range(1, 100):
        simulation = Simulation(seed, network, make_ledger)
        simulation.run()
        found = Evidence(simulation, simulation.calls, network.documents(simulation.project))
        states = {document["state"] for path, document in found.documents.items() if "/holds/" in path}
        if states >= {"captured", "expired", "refused"} and "accounts/alice" in found.documents:
            break
        simulation.close()
    yield found
    simulation.close()


@pytest.fixture
def evidence(sound: Evidence) -> Evidence:
    """A copy to be changed."""
    return Evidence(sound.simulation, copy.deepcopy(sound.calls), copy.deepcopy(sound.documents))


def test_a_sound_seed(evidence: Evidence) -> None:
    assert evidence.audit() == []
    assert len(evidence.calls) > 20


def a_lost_record(evidence: Evidence) -> None:
    del evidence.documents[evidence.some("ops", lambda found: found["seq"] > 0)]


def a_lost_entry(evidence: Evidence) -> None:
    del evidence.documents[f"accounts/alice/entries/{evidence.head()['seq']:012d}"]


def an_entry_of_nobody(evidence: Evidence) -> None:
    op_id = evidence.some("ops", lambda found: found["seq"] > 0).rpartition("/")[2]
    evidence.calls[:] = [call for call in evidence.calls if call.id != op_id]


def a_hold_of_nobody(evidence: Evidence) -> None:
    path = evidence.some("holds")
    evidence.calls[:] = [call for call in evidence.calls if call.id != path.rpartition("/")[2]]


def another_balance(evidence: Evidence) -> None:
    evidence.head()["posted"] += 1


def other_counters(evidence: Evidence) -> None:
    evidence.head()["counters"]["revenue:chat"] = 5


def a_changed_entry(evidence: Evidence) -> None:
    entry = evidence.documents["accounts/alice/entries/000000000001"]
    entry["content"] = entry["content"].replace(b'"amount":', b'"amount":1')


def another_signature(evidence: Evidence) -> None:
    entry = evidence.documents["accounts/alice/entries/000000000001"]
    entry["signature"] = bytes(64)


def a_capture_that_is_a_release(evidence: Evidence) -> None:
    evidence.documents[evidence.some("holds", lambda found: found["state"] == "captured")]["state"] = "released"


def a_hold_that_is_open_again(evidence: Evidence) -> None:
    evidence.documents[evidence.some("holds", lambda found: found["state"] == "expired")]["state"] = "held"


def a_capture_of_more(evidence: Evidence) -> None:
    evidence.documents[evidence.some("holds", lambda found: found["state"] == "captured")]["captured"] += 1


def a_hold_that_lives_longer(evidence: Evidence) -> None:
    hold = evidence.documents[evidence.some("holds", lambda found: found["state"] == "expired")]
    hold["expiresAt"] = hold["expiresAt"].replace(year=2027)


def a_fence_of_nobody(evidence: Evidence) -> None:
    evidence.documents[evidence.some("holds", lambda found: found["state"] != "refused")]["fence"] += 20


def a_refusal_that_is_forgotten(evidence: Evidence) -> None:
    call = evidence.answered("hold", "refused")
    del evidence.documents[f"accounts/{call.uid}/holds/{call.id}"]


def a_refusal_without_reason(evidence: Evidence) -> None:
    call = evidence.answered("hold", "refused")
    evidence.documents[f"accounts/{call.uid}/holds/{call.id}"]["refusal"]["missing"] += 1


def an_answer_of_another_entry(evidence: Evidence) -> None:
    call = evidence.answered("credit", "done")
    call.answer = Answer("done", {**call.answer.values, "seqs": {call.uid: 99}})  # type: ignore[union-attr]


def a_credit_that_was_called_a_conflict(evidence: Evidence) -> None:
    call = evidence.answered("credit", "done")
    evidence.calls[:] = [other for other in evidence.calls if other is call or other.request[:3] != call.request[:3]]
    call.answer = Answer("conflict")


def a_proper_credit_that_was_called_invalid(evidence: Evidence) -> None:
    evidence.answered("credit", "done").answer = Answer("invalid")


def a_capture_by_nobody(evidence: Evidence) -> None:
    path = evidence.some("holds", lambda found: found["state"] == "captured")
    evidence.calls[:] = [
        call for call in evidence.calls if call.action != "capture" or call.id != path.rpartition("/")[2]
    ]


def a_capture_by_a_stale_run(evidence: Evidence) -> None:
    path = evidence.some("holds", lambda found: found["state"] == "captured")
    for call in evidence.calls:
        if call.action == "capture" and call.id == path.rpartition("/")[2] and call.before.hold is not None:
            call.body = {**call.body, "fence": 0}
            call.before = replace(call.before, hold={**call.before.hold, "fence": 1})


def a_capture_after_the_end(evidence: Evidence) -> None:
    path = evidence.some("holds", lambda found: found["state"] == "captured")
    for call in evidence.calls:
        if call.after is not None and call.after.hold is not None and call.id == path.rpartition("/")[2]:
            ended = call.after.hold["expiresAt"].replace(year=2025)
            call.after = replace(call.after, hold={**call.after.hold, "expiresAt": ended})


@pytest.mark.parametrize(
    "change",
    [
        a_lost_record,
        a_lost_entry,
        an_entry_of_nobody,
        a_hold_of_nobody,
        another_balance,
        other_counters,
        a_changed_entry,
        another_signature,
        a_capture_that_is_a_release,
        a_hold_that_is_open_again,
        a_capture_of_more,
        a_hold_that_lives_longer,
        a_fence_of_nobody,
        a_refusal_that_is_forgotten,
        a_refusal_without_reason,
        an_answer_of_another_entry,
        a_credit_that_was_called_a_conflict,
        a_proper_credit_that_was_called_invalid,
        a_capture_by_nobody,
        a_capture_by_a_stale_run,
        a_capture_after_the_end,
    ],
    ids=lambda change: change.__name__,
)
def test_one_thing_changed(evidence: Evidence, change: Callable[[Evidence], None]) -> None:
    change(evidence)
    assert evidence.audit() != []
