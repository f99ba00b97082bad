"""`concierge ledger verify FILE`: proofs that a person keeps, checked without any network, service or setting.

Exit codes: 0 verified, 1 invalid, 2 input that cannot be used, 3 pending: sound, and in no checkpoint yet.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from concierge.credits.exports.verification import EXPORT_FORMAT, ExportError, assemble, keys_of, verify_export
from concierge.kit.microcredits import show
from concierge.ledger.checkpoints.notes import Checkpoint, Verifier
from concierge.ledger.checkpoints.receipts import (
    CONSISTENCY_FORMAT,
    RECEIPT_FORMAT,
    TRUSTED_LEDGER,
    Check,
    ReceiptError,
    ReceiptVerification,
    keys_in,
    open_checkpoint,
    trusted_keys,
    verify_consistency_document,
    verify_consistency_receipt,
    verify_receipt,
)
from concierge.ledger.signatures import Keyring

EXIT_CODES = {"verified": 0, "invalid": 1, "pending": 3}
UNUSABLE = 2
_STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Options:
    """What is trusted: files, None for those that were not given."""

    keys: str | None = None
    checkpoint: str | None = None
    consistency: str | None = None
    as_json: bool = False

    @property
    def any_file(self) -> bool:
        return any(name is not None for name in (self.keys, self.checkpoint, self.consistency))


@dataclass(slots=True)
class _Report:
    """`facts` are what a verified document says, for people."""

    format: str
    state: str
    checks: list[Check]
    trusted: bool
    facts: dict[str, Any] = field(default_factory=dict)


class _Unusable(Exception):
    """A file that cannot be read, or is nothing that can be verified; the message says which."""


def is_file(source: str) -> bool:
    """Whether this names a file rather than an account: user ids hold no slash."""
    return source == _STANDARD_INPUT or "/" in source or Path(source).is_file()


def verify(source: str, options: Options) -> int:
    """Verifies a receipt, a consistency proof or an export, prints every check, and answers with the exit code."""
    try:
        report = _verify(_document(source), options)
    except (_Unusable, ReceiptError, ExportError) as error:
        print(f"concierge ledger verify: {error}", file=sys.stderr)
        return UNUSABLE
    if options.as_json:
        print(json.dumps(_as_json(report)))
    else:
        _print(report)
    return EXIT_CODES[report.state]


def _verify(document: Any, options: Options) -> _Report:
    if isinstance(document, list):
        # The pages of an export, as the API answered them.
        return _export(document, options)
    name = document.get("format") if isinstance(document, dict) else None
    verifiers: dict[Any, Callable[[Any, Options], _Report]] = {
        RECEIPT_FORMAT: _receipt,
        CONSISTENCY_FORMAT: _consistency,
        EXPORT_FORMAT: _export,
    }
    # A JSON value of any type may stand there.
    verifier = verifiers.get(name) if isinstance(name, str) else None
    if verifier is None:
        raise _Unusable(f"the format is none of {', '.join(sorted(verifiers))}")
    return verifier(document, options)


def _receipt(document: Any, options: Options) -> _Report:
    ledger, keyring, verifiers = _trusted(options.keys) if options.keys is not None else (None, *keys_in(document))
    result = verify_receipt(document, keyring, verifiers, trusted_ledger=ledger)
    checks = list(result.checks)
    if result.checkpoint is not None and result.state != "invalid":
        checks += _against_trusted_checkpoint(result.checkpoint, verifiers, options)
    facts = {"entry": result.fields, "checkpoint": _checkpoint_json(result.checkpoint)}
    return _Report(RECEIPT_FORMAT, _state(checks, result), checks, options.keys is not None, facts)


def _consistency(document: Any, options: Options) -> _Report:
    if options.keys is None:
        raise _Unusable("a consistency proof names no keys: give those that you trust with --keys")
    _, _, verifiers = _trusted(options.keys)
    result = verify_consistency_receipt(document, verifiers)
    checks = list(result.checks)
    if options.checkpoint is not None and result.state != "invalid":
        sides = [open_checkpoint(document[side]["note"], verifiers) for side in ("from", "to")]
        trusted, check = _trusted_checkpoint(options.checkpoint, verifiers)
        checks.append(check)
        if trusted is not None:
            fault = "" if trusted in sides else "it is neither of the two"
            checks.append(Check("the trusted checkpoint is one of the two", fault))
    facts = {"checkpoint": _checkpoint_json(result.checkpoint)}
    return _Report(CONSISTENCY_FORMAT, _state(checks, result), checks, True, facts)


def _export(document: Any, options: Options) -> _Report:
    export = assemble(document)
    ledger, keyring, _ = _trusted(options.keys) if options.keys is not None else (None, keys_of(export), [])
    checks: list[Check] = []
    if ledger is not None:
        fault = "" if export["ledger"] == ledger else f"the trusted keys are those of {ledger}"
        checks.append(Check(TRUSTED_LEDGER, fault))
    result = verify_export(export, keyring)
    checks += result.checks
    state = "verified" if all(check.passed for check in checks) else "invalid"
    facts = {
        "account": {
            "uid": export["uid"],
            "entries": result.entries,
            "postedMicrocredits": result.head.posted,
            "heldMicrocredits": result.head.held,
        }
    }
    return _Report(EXPORT_FORMAT, state, checks, options.keys is not None, facts)


def _trusted(name: str) -> tuple[str, Keyring, list[Verifier]]:
    """(ledger, its keys, the keys of its checkpoints) of a file."""
    return trusted_keys(_document(name))


def _against_trusted_checkpoint(covering: Checkpoint, verifiers: Sequence[Verifier], options: Options) -> list[Check]:
    """Whether the log that covers a receipt is the one that was seen before."""
    if options.checkpoint is None:
        if options.consistency is not None:
            raise _Unusable("--consistency leads to a checkpoint: give the one that you trust with --checkpoint")
        return []
    trusted, check = _trusted_checkpoint(options.checkpoint, verifiers)
    if trusted is None:
        return [check]
    if trusted.size != covering.size and options.consistency is None:
        sizes = f"from={min(trusted.size, covering.size)}&to={max(trusted.size, covering.size)}"
        raise _Unusable(f"--consistency is missing: the answer to GET /api/v1/ledger/consistency?{sizes}")
    proof = _document(options.consistency) if options.consistency is not None else {}
    older, newer = sorted((trusted, covering), key=lambda checkpoint: checkpoint.size)
    return [check, verify_consistency_document(proof, older, newer)]


def _trusted_checkpoint(name: str, verifiers: Sequence[Verifier]) -> tuple[Checkpoint | None, Check]:
    """The checkpoint in a file: a note, or the JSON object in which the API answers one."""
    check = "the trusted checkpoint is signed by the log"
    text = _text(name)
    if text.lstrip().startswith("{"):
        found = _parsed(text, name)
        text = found.get("note") if isinstance(found.get("note"), str) else ""
    try:
        return open_checkpoint(text, verifiers), Check(check)
    except ValueError as error:
        return None, Check(check, str(error))


def _state(checks: list[Check], result: ReceiptVerification) -> str:
    return result.state if all(check.passed for check in checks) else "invalid"


def _document(name: str) -> Any:
    return _parsed(_text(name), name)


def _text(name: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if name == _STANDARD_INPUT else Path(name).read_bytes()
        return raw.decode()
    except OSError as error:
        raise _Unusable(f"{name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _Unusable(f"{name} is not text in UTF-8") from error


def _parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Unusable(f"{name} is not JSON") from error


def _checkpoint_json(checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    if checkpoint is None:
        return None
    return {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()}


def _as_json(report: _Report) -> dict[str, Any]:
    checks = [{"name": check.name, "passed": check.passed, "fault": check.fault or None} for check in report.checks]
    keys = "trusted" if report.trusted else "own"
    return {"format": report.format, "state": report.state, "keys": keys, "checks": checks, **report.facts}


def _print(report: _Report) -> None:
    _say(report.format)
    for check in report.checks:
        _say(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}" + (f": {check.fault}" if check.fault else ""))
    if report.state != "invalid":
        for line in _facts(report.facts):
            _say(f"      {line}")
    if not report.trusted:
        _say("Checked against the keys that the document names itself: that proves only that it agrees with itself.")
        _say("Get the ledger's keys from GET /api/v1/ledger/keys and give them with --keys.")
    if report.state == "pending":
        _say("No checkpoint covers the entry yet: ask for the receipt again in some minutes.")
    verified = "verified" if report.trusted else "verified against its own keys"
    _say({"verified": verified, "invalid": "NOT VERIFIED", "pending": "pending"}[report.state])


def _say(line: str) -> None:
    """Somebody else wrote the document: nothing in it reaches the terminal but what can be printed."""
    print("".join(character if character.isprintable() else "�" for character in line))


def _facts(facts: dict[str, Any]) -> list[str]:
    lines = []
    if entry := facts.get("entry"):
        lines.append(
            f"entry {entry['seq']} of {entry['uid']}: {entry.get('kind')} of {entry.get('amount')} microcredits"
        )
        lines.append(f"at {entry.get('at')}, operation {entry.get('opId')}")
    if account := facts.get("account"):
        posted, held = show(account["postedMicrocredits"]), show(account["heldMicrocredits"])
        lines.append(f"{account['uid']}: {account['entries']} entries, posted {posted}, held {held}")
    if checkpoint := facts.get("checkpoint"):
        lines.append(f"checkpoint {checkpoint['origin']} of {checkpoint['size']} leaves, root {checkpoint['root']}")
    return lines
