"""Changes of Firestore as the SDK's handlers see them, in the functions process."""

from typing import Any

from google.cloud.firestore_v1 import _helpers
from google.cloud.firestore_v1.types import document as documents
from support.functions_harness import PROJECT, Harness

from emulator.contracts import FirestoreChange

DATABASE = f"projects/{PROJECT}/databases/(default)"


def document(path: str, fields: dict[str, Any] | None, seconds: int = 1) -> Any:
    """The raw message of a stored document."""
    if fields is None:
        return None
    message = documents.Document.pb(
        documents.Document(name=f"{DATABASE}/documents/{path}", fields=_helpers.encode_dict(fields))
    )
    message.create_time.seconds = 1
    message.update_time.seconds = seconds
    return message


def commit(functions: Harness, path: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
    change = FirestoreChange(
        f"{DATABASE}/documents/{path}", document(path, before), document(path, after, 2), 1_700_000_000_000
    )
    functions.thread.call(functions.dispatcher.on_firestore_change, change)
    functions.wait_idle()


def test_created_updated_and_deleted_documents(functions: Harness) -> None:
    first = {"name": "grüße", "posted": 2**60, "rate": 0.5, "flags": [True, None], "map": {"a": {"b": 1}}}
    second = {"name": "x", "empty": {}}
    commit(functions, "accounts/ünï", None, first)
    commit(functions, "accounts/ünï", first, second)
    commit(functions, "accounts/ünï", second, None)

    (created,) = functions.records("account_created")
    assert created["data"] == first
    assert created["params"] == {"uid": "ünï"}
    assert (created["document"], created["subject"]) == ("accounts/ünï", "documents/accounts/ünï")
    assert (created["project"], created["database"], created["namespace"]) == (PROJECT, "(default)", "(default)")
    assert created["source"] == f"//firestore.googleapis.com/{DATABASE}"
    (updated,) = functions.records("account_updated")
    assert updated["data"] == {"before": first, "after": second}
    (deleted,) = functions.records("account_deleted")
    assert deleted["data"] == second
    assert [record["data"] for record in functions.records("account_written")] == [
        {"before": None, "after": first},
        {"before": first, "after": second},
        {"before": second, "after": None},
    ]
    by = functions.records("account_written_by")
    assert [record["auth_type"] for record in by] == ["service_account"] * 3
    assert by[0]["auth_id"].endswith(f"@{PROJECT}.iam.gserviceaccount.com")


def test_documents_that_match_no_pattern_and_writes_without_a_change_are_silent(functions: Harness) -> None:
    commit(functions, "users/u", None, {"a": 1})
    commit(functions, "accounts/u/entries/1", None, {"a": 1})
    commit(functions, "accounts/u", {"a": float("nan"), "b": 1}, {"b": 1, "a": float("nan")})
    commit(functions, "accounts/u", None, None)
    assert not functions.deliveries.log


def test_an_event_over_the_limit_of_eventarc_is_not_delivered(functions: Harness) -> None:
    commit(functions, "accounts/u", {"text": "x" * 300_000}, {"text": "y" * 300_000})
    assert {row.result for row in functions.deliveries.log} == {"too_large"}
    assert not functions.records("account_written")
