"""Balances that contradict the ledger and wait for an administrator, over HTTPS."""

from typing import Any

from support.api import administrator, call, uid_of
from support.backend import Backend

from cli.client import Client


def listed(backend: Backend, admin: Client) -> dict[str, dict[str, Any]]:
    answer = call(backend, admin, "GET", "/credits/balance-reviews")
    assert answer.status_code == 200, answer.text
    return {review["uid"]: review for review in answer.json()["reviews"]}


def test_an_administrator_sees_both_sides_and_decides_once(backend: Backend) -> None:
    admin, client = administrator(backend), backend.welcomed()
    uid, path = uid_of(client), f"/credits/balance-reviews/{uid_of(client)}/resolve"
    backend.idle()
    assert call(backend, admin, "POST", path, {}).status_code == 404
    backend.admin(f"balances/{uid}/posted").set(7)
    synced = call(backend, admin, "POST", "/credits/sync-balance", {"uid": uid, "strategy": "manual-review"})
    assert synced.json()["action"] == "review"
    review = listed(backend, admin)[uid]
    assert (review["shown"]["posted"], review["ledger"]["posted"]) == (7, 1_000_000_000)
    assert type(review["atMs"]) is int
    assert backend.admin(f"balances/{uid}/posted").get() == 7, "nothing is shown before somebody has decided"
    resolved = call(backend, admin, "POST", path, {}, key="once")
    assert (resolved.status_code, resolved.json()["action"]) == (200, "written")
    again = call(backend, admin, "POST", path, {}, key="once")
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (resolved.json(), "true")
    assert backend.admin(f"balances/{uid}/posted").get() == 1_000_000_000
    assert uid not in listed(backend, admin)
    assert call(backend, admin, "POST", path, {}, key="twice").status_code == 404


def test_reviews_are_for_administrators(backend: Backend) -> None:
    client = backend.welcomed()
    uid = uid_of(client)
    backend.admin(f"housekeeping/mirrorReviews/{uid}").set({"shown": 1, "ledger": {"seq": 1}, "at": 5})
    assert call(backend, client, "GET", "/credits/balance-reviews").status_code == 403
    assert call(backend, None, "GET", "/credits/balance-reviews").status_code == 401
    assert call(backend, client, "POST", f"/credits/balance-reviews/{uid}/resolve", {}).status_code == 403
    assert backend.admin(f"housekeeping/mirrorReviews/{uid}").get() is not None
    backend.admin(f"housekeeping/mirrorReviews/{uid}").delete()
