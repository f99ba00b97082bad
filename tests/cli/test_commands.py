"""The commands as people type them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.backend import CHECKPOINT_KEY, IDENTITY_KEY, SIGNING_KEY, Backend
from support.provider import Behaviour, ScriptedProvider
from support.waiting import eventually

from cli.stack import Stack

CONCIERGE = [sys.executable, "-m", "cli.main"]


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    unset = ("AI_PLATFORM_BASE_URL", "AI_PLATFORM_API_KEY", "AI_PLATFORM_CHAT_MODEL", "LEDGER_SIGNING_KEY")
    base = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [*CONCIERGE, *arguments], env={**base, **environment}, capture_output=True, text=True, check=False
    )


def check_result(result: dict[str, Any]) -> None:
    assert set(result) == {"uid", "answer", "chunks", "credits", "ledger", "receipt", "ms"}
    credits = result["credits"]
    assert credits["granted_microcredits"] == 1_000_000_000
    assert 0 < credits["charged_microcredits"] <= credits["held_peak_microcredits"]
    assert credits["posted_microcredits"] == credits["granted_microcredits"] - credits["charged_microcredits"]
    assert result["ledger"] == {"entries": 3, "verified": True}
    assert result["receipt"]["chargedMicrocredits"] == credits["charged_microcredits"]
    assert result["chunks"] >= 1
    assert set(result["ms"]) == {"boot", "first_token", "total"}
    assert 0 < result["ms"]["first_token"] < result["ms"]["total"]


def test_demo_prints_one_json_object(backend: Backend) -> None:
    """Offline: the model says what it is."""
    finished = run("demo", "--json")
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert len(lines) == 1
    result = json.loads(lines[0])
    check_result(result)
    assert "offline" in result["answer"]


def test_demo_talks_to_the_provider_that_is_configured(provider: ScriptedProvider) -> None:
    provider.on("a question for the provider", Behaviour(tokens=["From ", "the ", "provider."]))
    finished = run(
        "demo",
        "--json",
        "--text",
        "a question for the provider",
        AI_PLATFORM_BASE_URL=provider.base_url,
        AI_PLATFORM_API_KEY="k",
    )
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout)
    check_result(result)
    assert result["answer"] == "From the provider."
    assert provider.calls["a question for the provider"] == 1


def test_demo_asks_for_a_model_that_the_provider_offers(provider: ScriptedProvider) -> None:
    marker = "which model is this"
    provider.on(marker, Behaviour())
    provider.offers = ["something-unpriced", "gpt-4o-mini"]
    try:
        settings = {"AI_PLATFORM_BASE_URL": provider.base_url, "AI_PLATFORM_API_KEY": "k"}
        finished = run("demo", "--json", "--text", marker, **settings)
    finally:
        provider.offers = ["scripted"]
    assert finished.returncode == 0, finished.stderr
    assert [request["model"] for request in provider.requests[marker]] == ["gpt-4o-mini"]


def test_demo_for_people_shows_the_whole_journey() -> None:
    finished = run("demo")
    assert finished.returncode == 0, finished.stderr
    for expected in ("Welcome credits arrived: 1,000 credits", "offline", "Balance:", "grant", "hold", "capture"):
        assert expected in finished.stdout
    assert "\nverified\n" in finished.stdout


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({"AI_PLATFORM_BASE_URL": "http://127.0.0.1:9/v1"}, "AI_PLATFORM_API_KEY"),
        ({"AI_PLATFORM_API_KEY": "k"}, "AI_PLATFORM_BASE_URL"),
        ({"RESERVATION_EXPIRY_MINUTES": "soon"}, "RESERVATION_EXPIRY_MINUTES"),
        ({"LEDGER_SIGNING_KEY": "short"}, "LEDGER_SIGNING_KEY"),
        ({"MODEL_CATALOGUE_FILE": "/nowhere.json"}, "MODEL_CATALOGUE_FILE"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(environment: dict[str, str], variable: str) -> None:
    finished = run("demo", **environment)
    assert finished.returncode == 1
    assert variable in finished.stderr


def test_exec_gives_a_command_the_emulators() -> None:
    program = (
        "import os, json; from google.cloud import firestore; from google.auth.credentials import AnonymousCredentials;"
        "c = firestore.Client(project=os.environ['GCLOUD_PROJECT'], credentials=AnonymousCredentials());"
        "c.document('a/b').set({'x': 1}); print(c.document('a/b').get().to_dict()); raise SystemExit(7)"
    )
    finished = run("emulators", "exec", "--", sys.executable, "-c", program)
    assert finished.stdout.strip() == "{'x': 1}", finished.stderr
    assert finished.returncode == 7


def test_doctor_names_what_is_missing_and_passes_when_all_is_well(backend: Backend, provider: ScriptedProvider) -> None:
    ill = run("doctor", **backend.stack.environment)
    assert ill.returncode == 1
    assert "LEDGER_SIGNING_KEY" in ill.stdout
    assert "AI_PLATFORM_BASE_URL" in ill.stdout
    settings = {
        "AI_PLATFORM_BASE_URL": provider.base_url,
        "AI_PLATFORM_API_KEY": "secret-key-1",
        "CHECKPOINT_SIGNING_KEY": CHECKPOINT_KEY,
        "IDENTITY_HASH_KEY": IDENTITY_KEY,
    }
    other = run("doctor", **backend.stack.environment, **settings, LEDGER_SIGNING_KEY=SIGNING_KEY)
    assert other.returncode == 1
    assert "AI_PLATFORM_CHAT_MODEL" in other.stdout, "the scripted provider does not offer the default model"
    catalogue = str(backend.catalogue)
    well = run(
        "doctor",
        **backend.stack.environment,
        **settings,
        LEDGER_SIGNING_KEY=SIGNING_KEY,
        MODEL_CATALOGUE_FILE=catalogue,
    )
    assert well.returncode == 0, well.stdout
    assert "FAIL" not in well.stdout
    for finished in (ill, other, well):
        assert SIGNING_KEY not in finished.stdout + finished.stderr
        assert "secret-key-1" not in finished.stdout + finished.stderr


def test_data_survives_a_kill(tmp_path: Path, provider: ScriptedProvider) -> None:
    """Users, balances, entries, responses and the signing key are there after kill -9, and the chain goes on."""
    environment = {"AI_PLATFORM_BASE_URL": provider.base_url, "AI_PLATFORM_API_KEY": "k"}
    arguments = ("--data", str(tmp_path))
    with (tmp_path / "log").open("w") as log:
        stack = Stack.start(arguments=arguments, environment=environment, log=log)
        first = Backend(stack, tmp_path)
        client = first.welcomed()
        request_id = first.ask(client, "hello")
        answered = first.await_status(client, request_id)
        assert answered["status"] == "done"
        first.idle()
        assert client.session is not None
        uid, session = client.session.uid, client.session
        os.kill(stack.process.pid, signal.SIGKILL)
        stack.process.wait()
        stack.stop()
        first.close()
        with Stack.start(arguments=arguments, environment=environment, log=log) as again:
            second = Backend(again, tmp_path)
            client = second.client()
            client.session = session
            client.refresh_id_token()
            assert second.response(client, request_id) == answered
            later = second.answer(client, "hello")
            assert later["status"] == "done"
            entries = client.api(f"/accounts/{uid}/ledger/entries")["entries"]
            assert len(entries) == 5
            assert len({entry["keyId"] for entry in entries}) == 1
            eventually(lambda: client.read(f"balances/{uid}")["held"] == 0, "the mirror")
            second.close()


def test_a_stack_for_people_ends_on_a_signal_and_leaves_nothing_behind() -> None:
    command = [sys.executable, "-m", "emulator", "--source", "functions"]
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("The embedded Firebase is up")
        addresses = dict(process.stdout.readline().split() for _ in range(8))
        functions = httpx.get(f"{addresses['hub']}/functions", trust_env=False).json()["pid"]
        os.kill(functions, 0)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(60) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(functions, 0)
