"""`concierge demo`: one paid answer, end to end, as a client sees it.

Boots the embedded Firebase with the functions in it, signs a person up, waits for the welcome credits, asks, prints the
answer while it streams, and verifies the account's ledger with nothing but what the public API serves.
"""

import base64
import json
import sys
import time
from collections.abc import Callable
from tempfile import TemporaryFile
from typing import IO, Any
from uuid import uuid4

from cli.client import Client, ClientError, numbered
from cli.stack import Stack, StackError
from concierge.kit.microcredits import show
from concierge.ledger.entries import StoredEntry
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head
from concierge.ledger.verification import Verification, verify_chain

QUESTION = "In three sentences: what happens between my question and this answer?"
_PATIENCE_SECONDS = 60
_LOG_LINES = 30


def run(*, as_json: bool, question: str = QUESTION) -> int:
    """Exit code: 0 if an answer came and its ledger verifies."""
    say: Callable[..., None] = (lambda *_, **__: None) if as_json else print
    started = time.monotonic()
    # The stack's log would stand between the words of the answer; it is shown if something goes wrong.
    with TemporaryFile("w+", encoding="utf-8") as log:
        try:
            return _run(say, started, question, log, as_json=as_json)
        except (ClientError, StackError):
            log.seek(0)
            sys.stderr.writelines(log.readlines()[-_LOG_LINES:])
            raise


def _run(say: Callable[..., None], started: float, question: str, log: IO[str], *, as_json: bool) -> int:
    with Stack.start(log=log) as stack:
        boot_ms = _since(started)
        say(f"Embedded Firebase and functions are up after {boot_ms} ms; model: {stack.model_description}.\n")
        client = Client(stack.addresses)
        try:
            result = _journey(client, say, question)
        finally:
            client.close()
        result["ms"] = {"boot": boot_ms, "first_token": result.pop("first_token_ms"), "total": _since(started)}
    say(f"\nFirst token after {result['ms']['first_token']} ms, everything in {result['ms']['total']} ms.")
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    return 0 if result["ledger"]["verified"] and result["answer"] else 1


def _journey(client: Client, say: Callable[..., None], question: str) -> dict[str, Any]:
    session = client.sign_up(f"{uuid4().hex[:12]}@example.com", uuid4().hex)
    say(f"Signed up as {session.uid}.")
    with client.listen(f"balances/{session.uid}") as balances:
        client.put(f"devices/{session.uid}/{uuid4().hex}", {"platform": "cli", "createdAt": {".sv": "timestamp"}})
        balance = _wait_for(balances, lambda value: value is not None and value["posted"] > 0)
        say(f"Welcome credits arrived: {show(balance['posted'])} credits.\n")
        response, first_token_ms = _ask(client, say, question)
        if response["status"] != "done":
            raise ClientError(f"the request ended as {response['status']}: {response.get('error')}")
        balance = _wait_for(
            balances, lambda value: value["seq"] >= response["receipt"]["entrySeq"] and value["held"] == 0
        )
    say(f"\nBalance: {show(balance['available'])} credits; this answer cost {_cost(response)} credits.")
    entries, head, keyring, ledger_id = _download_ledger(client)
    verification = verify_chain(entries, ledger_id=ledger_id, uid=session.uid, keyring=keyring, head=head)
    _show_ledger(say, entries, verification)
    parsed = [entry.fields() for entry in entries]
    receipt = client.api(f"/accounts/{session.uid}/receipts/{response['requestId']}")
    receipt_matches = receipt["entry"]["hash"] == response["receipt"]["hash"] in {entry.hash for entry in entries}
    return {
        "uid": session.uid,
        "answer": response["text"],
        "chunks": response["chunksSeen"],
        "credits": {
            "granted_microcredits": sum(entry["amount"] for entry in parsed if entry["kind"] == "grant"),
            "held_peak_microcredits": max(entry["heldAfter"] for entry in parsed),
            "charged_microcredits": sum(entry["amount"] for entry in parsed if entry["kind"] == "capture"),
            "posted_microcredits": balance["posted"],
        },
        "ledger": {"entries": len(entries), "verified": verification.verified and receipt_matches},
        "receipt": receipt,
        "first_token_ms": first_token_ms,
    }


def _ask(client: Client, say: Callable[..., None], question: str) -> tuple[dict[str, Any], int]:
    """Writes the request and prints the answer as it streams; the terminal response and the first token's time."""
    assert client.session is not None
    uid, request_id = client.session.uid, uuid4().hex
    say(f"> {question}\n")
    first_token_ms = 0
    seen: dict[int, str] = {}
    with client.listen(f"responses/{uid}/{request_id}") as responses:
        asked = time.monotonic()
        client.put(
            f"requests/{uid}/{request_id}",
            {"kind": "chat", "conversationId": "demo", "text": question, "createdAt": {".sv": "timestamp"}},
        )
        for response in responses.values(_PATIENCE_SECONDS):
            if response is None:
                continue
            for number, text in sorted(numbered(response.get("chunks")).items()):
                if number not in seen:
                    first_token_ms = first_token_ms or _since(asked)
                    seen[number] = text
                    say(text, end="", flush=True)
            if response.get("status") in ("done", "failed", "cancelled"):
                say()
                return {**response, "requestId": request_id, "chunksSeen": len(seen)}, first_token_ms
    raise ClientError("the response never came")


def _download_ledger(client: Client) -> tuple[list[StoredEntry], Head, Keyring, str]:
    """Everything that verification needs, from the public API."""
    assert client.session is not None
    published = client.api("/ledger/keys")
    entries: list[StoredEntry] = []
    page: dict[str, Any] = {"next": 0}
    while page["next"] is not None:
        page = client.api(f"/accounts/{client.session.uid}/ledger/entries", after=page["next"])
        entries += [
            StoredEntry(
                base64.b64decode(entry["content"]), entry["hash"], entry["keyId"], base64.b64decode(entry["signature"])
            )
            for entry in page["entries"]
        ]
    shown = page["head"]
    head = Head(
        seq=shown["seq"],
        hash=shown["hash"],
        posted=shown["postedMicrocredits"],
        held=shown["heldMicrocredits"],
        debt=shown["debtMicrocredits"],
        frozen=shown["frozen"],
        counters=shown["countersMicrocredits"],
    )
    return entries, head, Keyring.from_text(None, published["keys"].values()), published["ledger"]


def _show_ledger(say: Callable[..., None], entries: list[StoredEntry], verification: Verification) -> None:
    say("\nLedger:")
    for entry in entries:
        fields = entry.fields()
        say(
            f"  {fields['seq']:>3}  {fields['kind']:<8} {show(fields['amount']):>12}   "
            f"posted {show(fields['postedAfter']):>12}   held {show(fields['heldAfter']):>10}   {entry.hash[:16]}"
        )
    say("verified" if verification.verified else "NOT VERIFIED")
    for finding in verification.findings:
        say(f"  entry {finding.seq}: {finding.code}: {finding.message}", file=sys.stderr)


def _wait_for(listener: Any, condition: Callable[[Any], bool]) -> Any:
    for value in listener.values(_PATIENCE_SECONDS):
        if condition(value):
            return value
    raise ClientError("the stream ended")


def _cost(response: dict[str, Any]) -> str:
    return show(response["cost"]["chargedMicrocredits"])


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
