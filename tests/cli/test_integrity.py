"""`concierge ledger replay`, `repair` and `backup` as operators type them."""

import os
import subprocess
import sys

import pytest
from support.backend import SIGNING_KEY, Backend
from support.tampering import Victim

CONCIERGE = [sys.executable, "-m", "cli.main", "ledger"]


@pytest.fixture
def backend(own_backend: Backend) -> Backend:
    return own_backend


def run(backend: Backend, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    settings = {"LEDGER_SIGNING_KEY": SIGNING_KEY, **environment}
    return subprocess.run(
        [*CONCIERGE, *arguments],
        env={**os.environ, **backend.stack.environment, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_account_is_replayed_and_repaired(backend: Backend) -> None:
    victim, other = Victim(backend), Victim(backend)
    saved = run(backend, "backup")
    assert (saved.returncode, "saved: 2" in saved.stdout) == (0, True), saved.stdout + saved.stderr
    sound = run(backend, "replay", victim.uid)
    assert sound.returncode == 0, sound.stderr
    assert sound.stdout.splitlines()[-1] == "as stored"
    assert run(backend, "replay", "--all").stdout.splitlines()[-1] == "2 accounts, 0 with differences"

    victim.flip(7, "signature", 3)
    victim.hold_document("r2").update({"state": "held"})
    damaged = run(backend, "replay", "--all")
    assert damaged.returncode == 1
    assert f"{victim.uid}: entry 7: BAD_SIGNATURE" in damaged.stdout
    assert other.uid not in damaged.stdout
    assert damaged.stdout.splitlines()[-1] == "2 accounts, 1 with differences"

    before = victim.documents()
    planned = run(backend, "repair", victim.uid)
    assert planned.returncode == 1
    assert f"{victim.uid}: would do: entry 7 restored from the backup" in planned.stdout
    assert victim.documents() == before

    repaired = run(backend, "repair", victim.uid, "--apply", "--reason", "a flipped bit")
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert repaired.stdout.splitlines()[-1] == f"{victim.uid}: repaired"
    (record,) = [snapshot.to_dict() for snapshot in backend.firestore.collection("integrityRepairs").stream()]
    assert record["actor"].startswith("operator:") and record["reason"] == "a flipped bit"
    assert "hold r2 rebuilt from entry 5" in record["actions"]
    assert run(backend, "replay", victim.uid).returncode == 0
    assert run(backend, "repair", victim.uid).stdout.splitlines() == [f"{victim.uid}: nothing to repair"]


def test_what_is_missing_is_said(backend: Backend) -> None:
    unknown = run(backend, "repair", "nobody")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.splitlines()[-1] == "concierge ledger repair: There is no such account."
    no_key = run(backend, "replay", "--all", LEDGER_SIGNING_KEY="")
    assert no_key.returncode == 2 and "LEDGER_SIGNING_KEY" in no_key.stderr
    assert run(backend, "replay").returncode == 2
    assert run(backend, "replay", "somebody", "--all").returncode == 2
