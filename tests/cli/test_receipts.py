"""`concierge ledger verify FILE` as people type it: nothing is set, and nothing answers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from concierge.ledger.signatures import Keyring

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "fixtures" / "receipts"
KEYS = str(FOLDER / "keys.json")
VECTORS = json.loads((FOLDER / "index.json").read_text())["vectors"]
EXIT_CODES = {"verified": 0, "invalid": 1, "pending": 3}


def verify(*arguments: str, stdin: str = "", cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "cli.main", "ledger", "verify", *arguments]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'functions'}", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        command, env=environment, cwd=cwd, input=stdin, capture_output=True, text=True, encoding="utf-8", check=False
    )


# One process each: enough of them to meet every exit code and every kind.
SHOWN = [
    vector
    for vector in VECTORS
    if vector["name"]
    in {
        "verified",
        "pending",
        "long-chain",
        "invalid-format",
        "invalid-entry-bytes",
        "invalid-checkpoint-root",
        "invalid-inclusion-hash",
        "consistency-7-11",
        "consistency-forked",
        "receipt-and-checkpoint",
        "receipt-and-checkpoint-forked",
    }
]


@pytest.mark.parametrize("vector", SHOWN, ids=lambda vector: vector["name"])
def test_a_vector_is_told_and_has_its_exit_code(vector: dict[str, Any]) -> None:
    options = ["--keys", KEYS]
    for name in ("checkpoint", "consistency"):
        if name in vector:
            options += [f"--{name}", str(FOLDER / vector[name])]
    file = str(FOLDER / vector["file"])
    if vector["name"] == "invalid-format":
        assert verify(file, *options).returncode == 2
        return
    finished = verify(file, *options)
    assert finished.returncode == EXIT_CODES[vector["state"]], finished.stdout + finished.stderr
    lines = finished.stdout.splitlines()
    failed = [line for line in lines if line.startswith("FAIL")]
    assert [line.split(":")[0].removeprefix("FAIL  ") for line in failed] == [vector["failed"]] * bool(vector["failed"])
    assert lines[-1] == {"verified": "verified", "invalid": "NOT VERIFIED", "pending": "pending"}[vector["state"]]
    assert "own keys" not in finished.stdout
    told = json.loads(verify(file, *options, "--json").stdout)
    assert (told["state"], told["keys"]) == (vector["state"], "trusted")
    assert [check["name"] for check in told["checks"] if check["passed"]] == [
        line.removeprefix("ok    ") for line in lines if line.startswith("ok")
    ]


def test_without_trusted_keys_it_says_what_that_proves() -> None:
    finished = verify(str(FOLDER / "verified.json"))
    assert finished.returncode == 0
    assert "only that it agrees with itself" in finished.stdout
    assert finished.stdout.splitlines()[-1] == "verified against its own keys"
    assert json.loads(verify(str(FOLDER / "verified.json"), "--json").stdout)["keys"] == "own"


def test_a_forger_with_keys_of_his_own_is_found_out_by_trusted_ones(tmp_path: Path) -> None:
    """Sealed by a stranger, and naming the stranger's key: it agrees with itself, and with nobody else."""
    receipt = json.loads((FOLDER / "invalid-entry-unknown-key.json").read_text())
    receipt.update(chain=[], leaf=None, inclusion=None, checkpoint=None)
    receipt["keys"]["ledger"] = Keyring(Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32), []).published()
    file = tmp_path / "forged.json"
    file.write_text(json.dumps(receipt))
    assert verify(str(file)).returncode == 3
    finished = verify(str(file), "--keys", KEYS)
    assert finished.returncode == 1
    assert "none of the known ones" in finished.stdout


def test_standard_input_is_read() -> None:
    text = (FOLDER / "verified.json").read_text()
    assert verify("-", "--keys", KEYS, stdin=text).returncode == 0
    assert verify("-", stdin="").returncode == 2


def test_a_receipt_whose_log_has_forked_since(tmp_path: Path) -> None:
    """A checkpoint of the same size with another root needs no proof."""
    forked = tmp_path / "forked.json"
    note = json.loads((FOLDER / "consistency-forked.json").read_text())["from"]["note"]
    forked.write_text(json.dumps({"note": note}))
    finished = verify(str(FOLDER / "verified.json"), "--keys", KEYS, "--checkpoint", str(forked))
    assert finished.returncode == 1
    assert "the log has forked" in finished.stdout


def test_a_consistency_proof_has_to_be_about_the_trusted_checkpoint() -> None:
    proof = str(FOLDER / "consistency-7-11.json")
    finished = verify(proof, "--keys", KEYS, "--checkpoint", str(FOLDER / "checkpoint-4.txt"))
    assert finished.returncode == 1
    assert "neither of the two" in finished.stdout
    same = str(FOLDER / "consistency-4-7.json")
    assert verify(same, "--keys", KEYS, "--checkpoint", str(FOLDER / "checkpoint-4.txt")).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere/receipt.json",), "cannot be read"),
        ((KEYS,), "the format is none of"),
        ((str(FOLDER / "checkpoint-4.txt"),), "is not JSON"),
        ((str(FOLDER / "verified.json"), "--keys", str(FOLDER / "index.json")), "the trusted keys: keys is missing"),
        ((str(FOLDER / "consistency-7-11.json"),), "--keys"),
        ((str(FOLDER / "verified.json"), "--checkpoint", str(FOLDER / "checkpoint-4.txt")), "consistency?from=4&to=7"),
        ((str(FOLDER / "verified.json"), "--consistency", str(FOLDER / "consistency-4-7.json")), "--checkpoint"),
        # An account's id where a file is asked for: no database is touched.
        (("somebody", "--keys", KEYS), "somebody cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named(arguments: tuple[str, ...], told: str) -> None:
    finished = verify(*arguments)
    assert finished.returncode == 2, finished.stdout
    assert told in finished.stderr
    assert "Traceback" not in finished.stderr


def test_odd_input_breaks_nothing(tmp_path: Path) -> None:
    """Deep nesting, control characters for the terminal, half a surrogate: told, and never executed."""
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 200_000)
    assert verify(str(deep)).returncode == 2
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    assert verify(str(binary)).returncode == 2
    receipt = json.loads((FOLDER / "verified.json").read_text())
    receipt["entry"]["keyId"] = "\x1b[2J\ud800"
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps(receipt))
    finished = verify(str(odd), "--keys", KEYS)
    assert (finished.returncode, finished.stderr) == (1, "")
    assert "none of the known ones" in finished.stdout
    assert "\x1b" not in finished.stdout
    assert verify(str(odd), "--keys", KEYS, "--json").returncode == 1


def test_it_loads_nothing_of_firebase(tmp_path: Path) -> None:
    """No network, because nothing that could reach it is there."""
    program = (
        "import sys; from cli.main import main\n"
        f"code = main(['ledger', 'verify', {str(FOLDER / 'verified.json')!r}, '--keys', {KEYS!r}])\n"
        "names = ('firebase_admin', 'google.cloud.firestore', 'grpc', 'concierge.wiring', 'concierge.config')\n"
        "loaded = [name for name in names if name in sys.modules]\n"
        "sys.exit(code or repr(loaded) if loaded else code)"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'functions'}"}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
