"""What reaches the model provider is paid for or declared free, and what it counts is charged once."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from support.api import uid_of
from support.backend import Backend
from support.provider import Behaviour, ScriptedProvider
from support.waiting import eventually

from concierge.credits.usage import cells
from concierge.llm.metering import policy_of


@pytest.fixture
def backend(own_backend: Backend) -> Iterator[Backend]:
    yield own_backend
    own_backend.clear_faults()
    own_backend.close_clients()


@dataclass(frozen=True)
class Journey:
    """A request that was made, and how many calls the provider should have had for it."""

    marker: str
    client: Any
    request_id: str
    calls: int
    charged: bool


def journeys(backend: Backend, provider: ScriptedProvider) -> Iterator[Journey]:
    """One of each kind that a person can make, with a question that no other one asks."""

    def journey(
        behaviour: Behaviour, client: Any, calls: int, *, charged: bool, cancel_at: str | None = None, **fields: Any
    ) -> Journey:
        marker = uuid4().hex
        provider.on(marker, behaviour)
        request_id = backend.ask(client, marker, **fields)
        if cancel_at is not None:
            backend.await_status(client, request_id, cancel_at)
            eventually(lambda: provider.calls[marker] == calls, "the call")
            client.put(f"cancellations/{uid_of(client)}/{request_id}", True)
        backend.await_status(client, request_id)
        for event in (behaviour.gate, behaviour.silence):
            if event is not None:
                event.set()
        return Journey(marker, client, request_id, calls, charged)

    client = backend.funded(10**9)
    yield journey(Behaviour(), client, 1, charged=True)
    yield journey(Behaviour(), client, 1, charged=True, kind="auto")
    yield journey(Behaviour(statuses=[500, 503]), client, 3, charged=True)
    dear = {"options": {"model": "dear"}}
    yield journey(Behaviour(models_failing=frozenset({"dear"})), client, 4, charged=True, **dear)
    yield journey(Behaviour(gate=threading.Event(), gate_at=2), client, 1, charged=True, cancel_at="streaming")
    yield journey(Behaviour(silence=threading.Event()), client, 1, charged=False, cancel_at="accepted")
    yield journey(Behaviour(statuses=[400]), client, 1, charged=False)
    yield journey(Behaviour(die_after=2), client, 1, charged=True)
    yield journey(Behaviour(tokens=[]), client, 1, charged=False)
    yield journey(Behaviour(), backend.client(), 1, charged=True)
    yield journey(Behaviour(), backend.funded(1), 0, charged=False)
    yield journey(Behaviour(), client, 0, charged=False, options={"model": "no-price"})
    yield journey(Behaviour(), client, 0, charged=False, kind="image")


@pytest.mark.acceptance("M13")
def test_every_call_of_a_provider_is_charged_or_declared_free(backend: Backend, provider: ScriptedProvider) -> None:
    backend.idle()
    before = len(provider.seen)
    made = list(journeys(backend, provider))
    backend.idle()
    backend.sweep()
    assert backend.run_schedule("usage_rollup") == 200
    assert backend.checkpoint() == 200
    assert backend.repair_mirrors() == 200
    seen = provider.seen[before:]
    # Whose each call was; nothing reaches the provider that belongs to nobody.
    whose = {journey.marker: [call for call in seen if call.text == journey.marker] for journey in made}
    assert sum(len(calls) for calls in whose.values()) == len(seen)
    ledger = backend.ledger()
    for journey in made:
        calls = whose[journey.marker]
        assert len(calls) == journey.calls, journey
        assert {policy_of(call.purpose or "") for call in calls} <= {"metered"}
        assert {call.path for call in calls} <= {"/v1/chat/completions"}
        hold = ledger.find_hold(uid_of(journey.client), journey.request_id)
        if not calls:
            assert hold is None or hold.refusal is not None
            continue
        # Metered: within a hold of whoever asked, which was resolved by the ledger's own entry.
        assert hold is not None
        assert (hold.state, hold.captured > 0) == (("captured", True) if journey.charged else ("released", False))
        assert hold.work is not None
        assert hold.work.kind == "chat"
        assert hold.work.model == calls[0].model
    for client in {uid_of(journey.client): journey.client for journey in made}.values():
        served = [journey for journey in made if journey.client is client and journey.calls]
        months = backend.firestore.collection(f"accounts/{uid_of(client)}/usage").stream()
        counted = [counters for month in months for counters in cells.from_document(month.to_dict()).values()]
        assert sum(counters["requests"] for counters in counted) == len(served)
        backend.audit(client)


def usage(prompt: int, details: Any, completion: int = 4) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
    }


def answered(backend: Backend, provider: ScriptedProvider, model: str, reported: Any) -> tuple[dict[str, Any], Any]:
    """The response to a question whose provider reports this usage, and what was counted."""
    marker = uuid4().hex
    provider.on(marker, Behaviour(usage=reported))
    client = backend.funded(10**9)
    response = backend.answer(client, marker, options={"model": model})
    assert response["status"] == "done"
    (month,) = backend.firestore.collection(f"accounts/{uid_of(client)}/usage").stream()
    (counters,) = cells.from_document(month.to_dict()).values()
    backend.audit(client)
    return response, counters


@pytest.mark.acceptance("M14")
def test_cached_tokens_are_charged_once(backend: Backend, provider: ScriptedProvider) -> None:
    """60 prompt tokens, of which 50 were cached: 60 are charged, not 110, at the normal price if there is no other."""
    reported = usage(60, {"cached_tokens": 50})
    response, counters = answered(backend, provider, "scripted", reported)
    assert response["cost"]["chargedMicrocredits"] == 60 * 10 + 4 * 40
    assert response["usage"] == {"inputTokens": 60, "outputTokens": 4, "estimated": False, "cachedInputTokens": 50}
    assert (counters["inputTokens"], counters["cachedInputTokens"]) == (60, 50)
    assert counters["costMicrocredits"] == 60 * 10 + 4 * 40


@pytest.mark.acceptance("M14")
@pytest.mark.parametrize("cached", [0, 1, 50, 60])
def test_cached_tokens_cost_their_own_price_where_there_is_one(
    backend: Backend, provider: ScriptedProvider, cached: int
) -> None:
    reported = usage(60, {"cached_tokens": cached, "audio_tokens": 0})
    response, counters = answered(backend, provider, "caching", reported)
    expected = (60 - cached) * 10 + cached * 3 + 4 * 40
    assert response["cost"]["chargedMicrocredits"] == counters["costMicrocredits"] == expected
    assert response["usage"].get("cachedInputTokens", 0) == counters.get("cachedInputTokens", 0) == cached


@pytest.mark.acceptance("M14")
@pytest.mark.parametrize(
    "details",
    [
        None,
        {},
        {"cached_tokens": None},
        {"cached_tokens": -1},
        {"cached_tokens": 61},
        {"cached_tokens": 10**30},
        {"cached_tokens": "many"},
        {"cached_tokens": 50.5},
        {"cached_tokens": [50]},
        "50",
        50,
        [50],
    ],
    ids=repr,
)
def test_malformed_details_are_ignored(backend: Backend, provider: ScriptedProvider, details: Any) -> None:
    response, counters = answered(backend, provider, "caching", usage(60, details))
    assert response["cost"]["chargedMicrocredits"] == 60 * 10 + 4 * 40
    assert response["usage"] == {"inputTokens": 60, "outputTokens": 4, "estimated": False}
    assert "cachedInputTokens" not in counters


@pytest.mark.parametrize(("written", "read"), [("50", 50), (50.0, 50)])
def test_a_number_that_is_written_oddly_is_still_one(
    backend: Backend, provider: ScriptedProvider, written: Any, read: int
) -> None:
    """The provider's package reads it so, and it is bounded all the same."""
    response, _ = answered(backend, provider, "caching", usage(60, {"cached_tokens": written}))
    assert response["cost"]["chargedMicrocredits"] == (60 - read) * 10 + read * 3 + 4 * 40


@pytest.mark.acceptance("M14")
def test_cached_tokens_never_exceed_what_is_charged(backend: Backend, provider: ScriptedProvider) -> None:
    """A prompt that the provider counts larger than it can be is charged as far as it can be; the cached part of it is
    no larger than that."""
    response, counters = answered(backend, provider, "caching", usage(1_500, {"cached_tokens": 1_500}))
    charged = response["usage"]["inputTokens"]
    assert charged < 1_500
    assert response["usage"]["cachedInputTokens"] == counters["cachedInputTokens"] == charged
    assert response["cost"]["chargedMicrocredits"] == charged * 3 + 4 * 40
