"""The browsers' verifier, run by node where there is one: it comes to the same as ours, check by check."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from concierge.ledger.checkpoints.receipts import trusted_keys, verify_consistency_receipt, verify_receipt

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "fixtures" / "receipts"
PAGE = ROOT / "web" / "public" / "ledger"
VECTORS = json.loads((FOLDER / "index.json").read_text())["vectors"]
NODE_MAJOR_MIN = 20


@pytest.fixture(scope="module")
def outcomes() -> Any:
    """What node makes of every vector."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; browsers' verification is not run")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").partition(".")[0]) < NODE_MAJOR_MIN:
        pytest.skip(f"node {version.strip()} has no Ed25519 in WebCrypto")
    runner = Path(__file__).with_name("run_vectors.mjs")
    finished = subprocess.run([node, str(runner), str(FOLDER)], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_vector_comes_out_as_stated(outcomes: Any, vector: dict[str, Any]) -> None:
    outcome = outcomes[vector["name"]]
    assert outcome["state"] == vector["state"]
    assert next((name for name, passed in outcome["checks"] if not passed), None) == vector["failed"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_both_verifiers_make_the_same_checks(outcomes: Any, vector: dict[str, Any]) -> None:
    ledger, keyring, verifiers = trusted_keys(json.loads((FOLDER / "keys.json").read_text()))
    document = json.loads((FOLDER / vector["file"]).read_text())
    if vector["kind"] == "consistency":
        result = verify_consistency_receipt(document, verifiers)
    else:
        result = verify_receipt(document, keyring, verifiers, trusted_ledger=ledger)
    ours = [[check.name, check.passed] for check in result.checks]
    assert outcomes[vector["name"]]["checks"][: len(ours)] == ours


def test_a_receipt_may_be_checked_against_its_own_keys(outcomes: Any) -> None:
    assert outcomes["own"] == "verified"


def test_the_page_takes_nothing_from_elsewhere() -> None:
    """No other host, no inline script: the page's policy allows only its own files."""
    html = (PAGE / "index.html").read_text()
    assert "default-src 'none'" in html
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)
    for path in PAGE.iterdir():
        assert not re.search(r"https?://", path.read_text()), path.name
    for name in re.findall(r'(?:src|href)="/ledger/([^"]+)"', html):
        assert (PAGE / name).is_file()
