"""How far an account was verified, as a document that proves itself, and the same as a cursor. Pure.

The document is sealed with the ledger's key: whoever can write to the database, and not sign, cannot make a forged
chain pass for verified by writing that it was. An older seal put back only makes more be verified again.
"""

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from concierge.kit.canonical import canonical_bytes
from concierge.ledger.integrity.replay import OpenHold, Progress
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head

_STATE_DOMAIN = b"concierge.ledger.validation.v1\x00"
_CURSOR_DOMAIN = b"concierge.ledger.cursor.v1\x00"
_VERSION = 1
_SIGNATURE_BYTES = 64
CURSOR_CHARACTERS_MAX = 6_000


@dataclass(frozen=True, slots=True)
class State:
    """What the scheduled validation keeps of one account. `anchor` is the newest published entry that it was compared
    with; `habits` is what anomalies.py remembers."""

    progress: Progress = field(default_factory=Progress)
    anchor: int = 0
    habits: Mapping[str, Any] = field(default_factory=dict)


def seal_state(keyring: Keyring, ledger_id: str, uid: str, state: State) -> dict[str, Any]:
    """The document: `{content, keyId, signature}`."""
    content = canonical_bytes(
        {
            "v": _VERSION,
            "ledger": ledger_id,
            "uid": uid,
            "head": _head_fields(state.progress.head),
            "holds": {
                hold_id: [hold.amount, hold.seq, hold.hash, hold.at] for hold_id, hold in state.progress.holds.items()
            },
            "seals": state.progress.seals,
            "anchor": state.anchor,
            "habits": dict(state.habits),
        }
    )
    key_id, signature = keyring.sign(_digest(_STATE_DOMAIN, content))
    return {"content": content, "keyId": key_id, "signature": signature}


def open_state(keyring: Keyring, ledger_id: str, uid: str, document: Mapping[str, Any] | None) -> State | None:
    """What was sealed for this account; None if there is nothing, and for whatever was not sealed by us."""
    try:
        content, key_id, signature = document["content"], document["keyId"], document["signature"]  # type: ignore[index]
        if not keyring.verifies(key_id, _digest(_STATE_DOMAIN, content), signature):
            return None
        fields = json.loads(content)
    except (KeyError, TypeError, ValueError):
        return None
    if (fields["v"], fields["ledger"], fields["uid"]) != (_VERSION, ledger_id, uid):
        return None
    holds = {hold_id: OpenHold(*values) for hold_id, values in fields["holds"].items()}
    return State(Progress(Head(**fields["head"]), holds, fields["seals"]), fields["anchor"], fields["habits"])


def seal_cursor(keyring: Keyring, ledger_id: str, uid: str, progress: Progress) -> str | None:
    """Where the verification of an account goes on in another call; the holds by the numbers of their entries, which
    are read again. None if there are too many of them for a URL."""
    places = sorted(hold.seq for hold in progress.holds.values())
    content = zlib.compress(
        canonical_bytes({"ledger": ledger_id, "uid": uid, "head": _head_fields(progress.head), "holds": places})
    )
    _, signature = keyring.sign(_digest(_CURSOR_DOMAIN, content))
    text = base64.urlsafe_b64encode(signature + content).decode().rstrip("=")
    return text if len(text) <= CURSOR_CHARACTERS_MAX else None


def open_cursor(keyring: Keyring, ledger_id: str, uid: str, text: str) -> tuple[Head, list[int]]:
    """The head and the numbers of the open holds' entries. Raises ValueError for what was not sealed by us, for this
    account."""
    if len(text) > CURSOR_CHARACTERS_MAX or not text.isascii():
        raise ValueError("no cursor of ours is that long")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    signature, content = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    digest = _digest(_CURSOR_DOMAIN, content)
    if not any(keyring.verifies(key_id, digest, signature) for key_id in keyring.published()):
        raise ValueError("not sealed by us")
    fields = json.loads(zlib.decompress(content))
    if (fields["ledger"], fields["uid"]) != (ledger_id, uid):
        raise ValueError("sealed for another account")
    return Head(**fields["head"]), fields["holds"]


def _head_fields(head: Head) -> dict[str, Any]:
    return {**asdict(head), "counters": dict(head.counters)}


def _digest(domain: bytes, content: bytes) -> str:
    return hashlib.sha256(domain + content).hexdigest()
