"""Streaming: what the client sees is complete, in order, and ends once."""

import json
import random
import threading
import time
from typing import Any

import pytest
from support.backend import Backend
from support.provider import Behaviour, ScriptedProvider
from support.waiting import eventually

from cli.client import numbered

WORDS = [f"word{number} " for number in range(40)]


def uid_of(client: Any) -> str:
    uid: str = client.session.uid
    return uid


def cancel(client: Any, request_id: str) -> None:
    client.put(f"cancellations/{uid_of(client)}/{request_id}", True)


def test_chunks_are_numbered_gapless_and_add_up(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("chunks", Behaviour(tokens=WORDS, token_seconds=0.01))
    client = backend.welcomed()
    seen: dict[int, str] = {}
    statuses: list[str] = []
    request_id = "chunks-1"
    with client.listen(f"responses/{uid_of(client)}/{request_id}") as listener:
        backend.ask(client, "chunks", request_id)
        for response in listener.values(60):
            if response is None:
                continue
            for number, text in numbered(response.get("chunks")).items():
                assert seen.setdefault(number, text) == text, "a chunk changed"
            if statuses[-1:] != [response["status"]]:
                statuses.append(response["status"])
            if response["status"] == "done":
                break
    assert statuses in (["streaming", "done"], ["accepted", "streaming", "done"])
    assert sorted(seen) == list(range(len(seen)))
    assert 1 < len(seen) < len(WORDS), "pieces are batched by time"
    assert "".join(seen[number] for number in sorted(seen)) == response["text"] == "".join(WORDS)
    backend.sweep()
    assert "chunks" not in backend.response(client, request_id), "chunks are deleted after the grace period"


@pytest.mark.acceptance("S01")
def test_a_client_that_goes_away_gets_its_answer_all_the_same(backend: Backend, provider: ScriptedProvider) -> None:
    gate = threading.Event()
    provider.on("s01", Behaviour(gate=gate, gate_at=1))
    client = backend.welcomed()
    with client.listen(f"responses/{uid_of(client)}/s01-1") as listener:
        backend.ask(client, "s01", "s01-1")
        while (listener.next(60) or {}).get("status") != "streaming":
            pass
    gate.set()
    response = backend.await_status(client, "s01-1")
    assert (response["status"], response["text"]) == ("done", "Hello, world.")
    assert provider.calls["s01"] == 1
    assert backend.kinds(client) == ["grant", "hold", "capture"]
    backend.audit(client)


@pytest.mark.acceptance("S02")
def test_cancel_mid_stream_keeps_and_charges_what_came(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("s02", Behaviour(tokens=WORDS, gate=threading.Event(), gate_at=20))
    client = backend.welcomed()
    request_id = backend.ask(client, "s02")
    eventually(
        lambda: "word19 " in "".join(numbered(backend.response(client, request_id).get("chunks")).values()), "20 words"
    )
    cancel(client, request_id)
    response = backend.await_status(client, request_id)
    assert response["status"] == "cancelled"
    assert response["text"] == "".join(WORDS[:20])
    assert response["usage"]["estimated"] is True
    assert 20 <= response["usage"]["outputTokens"] <= len(response["text"])
    assert 0 < response["cost"]["chargedMicrocredits"] < response["cost"]["heldMicrocredits"]
    eventually(lambda: provider.aborted["s02"] == 1, "the abort of the provider's stream")
    assert backend.kinds(client) == ["grant", "hold", "capture"]
    backend.audit(client)


@pytest.mark.acceptance("S03")
def test_cancel_before_the_first_token_is_free(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("s03-first", Behaviour(gate=threading.Event()))
    client = backend.welcomed()
    request_id = backend.ask(client, "s03-first")
    eventually(lambda: provider.calls["s03-first"] == 1, "the provider's call")
    cancel(client, request_id)
    response = backend.await_status(client, request_id)
    assert (response["status"], response["text"]) == ("cancelled", "")
    assert response["cost"]["chargedMicrocredits"] == 0
    eventually(lambda: provider.aborted["s03-first"] == 1, "the abort of the provider's stream")
    assert backend.kinds(client) == ["grant", "hold", "release"]
    backend.audit(client)


@pytest.mark.acceptance("S03")
def test_cancel_before_the_trigger_ran_calls_no_provider(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("s03-early", Behaviour())
    client = backend.welcomed()
    backend.fault("trigger.request_created", "delay", delay_ms=300)
    request_id = backend.ask(client, "s03-early")
    cancel(client, request_id)
    response = backend.await_status(client, request_id)
    assert response["status"] == "cancelled"
    assert provider.calls["s03-early"] == 0
    assert backend.kinds(client) == ["grant", "hold", "release"]
    assert backend.admin(f"cancellations/{uid_of(client)}").get() is None
    backend.audit(client)


@pytest.mark.acceptance("S04")
def test_cancel_races_completion(backend: Backend, provider: ScriptedProvider) -> None:
    """Whichever wins: one resolution, one terminal status that never changes again."""
    provider.on("s04", Behaviour(tokens=WORDS[:8], token_seconds=0.01))
    client = backend.welcomed()
    choice = random.Random(4)
    outcomes = set()
    for round_number in range(8):
        request_id = backend.ask(client, "s04")
        backend.await_status(client, request_id, "accepted", "streaming", "done", "cancelled")
        time.sleep(choice.uniform(0, 0.2))
        if backend.admin(f"requests/{uid_of(client)}/{request_id}").get(shallow=True) is not None:
            backend.admin(f"cancellations/{uid_of(client)}/{request_id}").set(True)
        first = backend.await_status(client, request_id)
        backend.idle()
        assert backend.response(client, request_id) == first
        assert backend.kinds(client).count("capture") + backend.kinds(client).count("release") == round_number + 1
        outcomes.add(first["status"])
    assert outcomes <= {"done", "cancelled"}
    backend.audit(client)


@pytest.mark.acceptance("S06")
def test_a_client_that_reconnects_reads_on_from_its_number(backend: Backend, provider: ScriptedProvider) -> None:
    gate = threading.Event()
    provider.on("s06", Behaviour(tokens=WORDS, gate=gate, gate_at=15, token_seconds=0.01))
    client = backend.welcomed()
    path = f"responses/{uid_of(client)}/s06-1"
    seen: dict[int, str] = {}
    with client.listen(f"{path}/chunks") as listener:
        backend.ask(client, "s06", "s06-1")
        while "word14 " not in "".join(seen.values()):
            seen.update(numbered(listener.next(60)))
    gate.set()
    backend.await_status(client, "s06-1")
    # The first device comes back with its cursor; the second one reads everything.
    cursor = max(seen) + 1
    later = numbered(client.read(f"{path}/chunks", orderBy='"$key"', startAt=f'"{cursor}"'))
    whole = numbered(client.read(f"{path}/chunks"))
    assert later
    assert not set(later) & set(seen)
    assert {**seen, **later} == whole
    assert "".join(whole[number] for number in sorted(whole)) == "".join(WORDS)


@pytest.mark.acceptance("S07")
def test_a_duplicate_delivery_leaves_the_live_stream_alone(backend: Backend, provider: ScriptedProvider) -> None:
    gate = threading.Event()
    provider.on("s07", Behaviour(tokens=WORDS, gate=gate, gate_at=10))
    client = backend.welcomed()

    def ended_deliveries() -> int:
        return sum(row["function"] == "request_created" for row in backend.deliveries())

    def chunks() -> dict[int, str]:
        return numbered(backend.response(client, "s07-1").get("chunks"))

    before = ended_deliveries()
    backend.fault("trigger.request_created", "duplicate")
    backend.ask(client, "s07", "s07-1")
    eventually(lambda: "word9 " in "".join(chunks().values()), "ten words")
    # The first delivery cannot end before the gate opens, so the one that did is the duplicate.
    eventually(lambda: ended_deliveries() == before + 1, "the end of the duplicate")
    live = backend.response(client, "s07-1")
    assert live["status"] == "streaming"
    gate.set()
    response = backend.await_status(client, "s07-1")
    assert response["text"] == "".join(WORDS)
    seen = numbered(response["chunks"])
    assert {number: seen[number] for number in numbered(live["chunks"])} == numbered(live["chunks"])
    assert sorted(seen) == list(range(len(seen)))
    assert provider.calls["s07"] == 1
    backend.idle()
    assert backend.kinds(client) == ["grant", "hold", "capture"]
    backend.audit(client)


@pytest.mark.acceptance("S08")
def test_an_empty_answer_is_released_in_full(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("s08", Behaviour(tokens=[]))
    client = backend.welcomed()
    response = backend.answer(client, "s08")
    assert (response["status"], response["text"]) == ("done", "")
    assert response["cost"]["chargedMicrocredits"] == 0
    assert backend.kinds(client) == ["grant", "hold", "release"]
    assert backend.audit(client).head.posted == 1_000_000_000


@pytest.mark.acceptance("S09")
@pytest.mark.parametrize(
    ("name", "behaviour"),
    [
        ("down", Behaviour(statuses=[500, 503, 500])),
        ("refusing", Behaviour(statuses=[401])),
        ("html", Behaviour(body=b"<html>secret detail</html>")),
        ("not-json", Behaviour(body=b"data: {secret detail\n\n")),
        ("wrong-shape", Behaviour(body=b'data: {"choices": 5, "usage": null}\n\n')),
        ("error-event", Behaviour(body=b'data: {"error": {"message": "secret detail"}}\n\n')),
    ],
)
def test_a_provider_that_fails_is_named_and_nothing_more(
    backend: Backend, provider: ScriptedProvider, name: str, behaviour: Behaviour
) -> None:
    provider.on(f"s09-{name}", behaviour)
    client = backend.welcomed()
    response = backend.answer(client, f"s09-{name}")
    assert response["status"] == "failed"
    assert response["error"] == {"code": "PROVIDER_UNAVAILABLE", "message": "The model provider does not answer."}
    assert "secret" not in json.dumps(response)
    assert provider.calls[f"s09-{name}"] == (1 if name == "refusing" else 3)
    assert backend.kinds(client) == ["grant", "hold", "release"]
    backend.audit(client)


@pytest.mark.acceptance("S09")
def test_a_bug_of_ours_reaches_the_client_as_a_code(backend: Backend) -> None:
    client = backend.welcomed()
    backend.restart_functions(CONCIERGE_FAULT="generation.after:raise")
    response = backend.answer(client, "hello")
    backend.restart_functions()
    assert response["error"]["code"] == "INTERNAL"
    assert "generation" not in json.dumps(response)
    assert backend.kinds(client) == ["grant", "hold", "release"]
    backend.audit(client)


@pytest.mark.acceptance("S05")
def test_a_provider_that_breaks_off_is_charged_for_what_it_delivered(
    backend: Backend, provider: ScriptedProvider
) -> None:
    provider.on("broken-off", Behaviour(tokens=WORDS, die_after=10, token_seconds=0.005))
    client = backend.welcomed()
    response = backend.answer(client, "broken-off")
    assert response["status"] == "failed"
    assert response["error"]["code"] == "PROVIDER_UNAVAILABLE"
    assert response["text"] == "".join(WORDS[:10])
    assert provider.calls["broken-off"] == 1, "starting again would repeat text that the client has"
    assert backend.kinds(client) == ["grant", "hold", "capture"]
    backend.audit(client)


def test_a_provider_that_recovers_is_asked_again(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("recovers", Behaviour(statuses=[503, 429]))
    client = backend.welcomed()
    response = backend.answer(client, "recovers")
    assert response["status"] == "done"
    assert provider.calls["recovers"] == 3
    assert response["cost"]["chargedMicrocredits"] == 360
    backend.audit(client)


def test_answers_share_a_connection_to_the_provider(backend: Backend, provider: ScriptedProvider) -> None:
    """A new TCP and TLS handshake for each answer would delay its first token."""
    provider.on("kept", Behaviour())
    provider.on("let-go", Behaviour(gate=threading.Event(), gate_at=1))
    client = backend.welcomed()
    for _ in range(3):
        assert backend.answer(client, "kept")["status"] == "done"
    assert len(set(provider.peers["kept"])) == 1
    request_id = backend.ask(client, "let-go")
    backend.await_status(client, request_id, "streaming")
    cancel(client, request_id)
    assert backend.await_status(client, request_id)["status"] == "cancelled"
    assert backend.answer(client, "kept")["status"] == "done"
    assert provider.calls["kept"] == 4
    backend.audit(client)


def test_a_silent_provider_is_given_up(backend: Backend, provider: ScriptedProvider) -> None:
    silence = threading.Event()
    provider.on("mute", Behaviour(silence=silence))
    client = backend.welcomed()
    backend.restart_functions(PROVIDER_SILENCE_TIMEOUT_SECONDS="0.2", PROVIDER_ATTEMPTS="2")
    response = backend.answer(client, "mute")
    silence.set()
    backend.restart_functions()
    assert (response["status"], response["error"]["code"]) == ("failed", "PROVIDER_UNAVAILABLE")
    assert provider.calls["mute"] == 2
    assert backend.kinds(client) == ["grant", "hold", "release"]
    backend.audit(client)


@pytest.mark.acceptance("S03")
def test_cancel_while_the_provider_says_nothing_at_all(backend: Backend, provider: ScriptedProvider) -> None:
    """No answer has begun, so there is no stream to abort: the request ends all the same."""
    silence = threading.Event()
    provider.on("s03-silent", Behaviour(silence=silence))
    client = backend.welcomed()
    request_id = backend.ask(client, "s03-silent")
    eventually(lambda: provider.calls["s03-silent"] == 1, "the provider's call")
    cancel(client, request_id)
    response = backend.await_status(client, request_id)
    assert response["status"] == "cancelled"
    assert not silence.is_set(), "the cancellation did not wait for the provider"
    silence.set()
    backend.idle()
    assert backend.response(client, request_id) == response
    assert backend.kinds(client) == ["grant", "hold", "release"]
    backend.audit(client)


def test_a_provider_that_ignores_the_ceiling_is_cut(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("talkative", Behaviour(tokens=WORDS, ignores_ceiling=True, token_seconds=0.005))
    client = backend.welcomed()
    response = backend.answer(client, "talkative", options={"maxTokens": 5})
    assert response["status"] == "done"
    assert response["text"] == "".join(WORDS[:5])
    assert response["cost"]["chargedMicrocredits"] <= response["cost"]["heldMicrocredits"]
    backend.audit(client)


def test_an_answer_that_ends_at_its_ceiling_is_charged_by_the_providers_count(
    backend: Backend, provider: ScriptedProvider
) -> None:
    provider.on("at-the-ceiling", Behaviour())
    client = backend.welcomed()
    response = backend.answer(client, "at-the-ceiling", options={"maxTokens": 4})
    assert response["text"] == "Hello, world."
    assert response["usage"] == {"inputTokens": 20, "outputTokens": 4, "estimated": False}
    assert response["cost"]["chargedMicrocredits"] == 360
    backend.audit(client)
