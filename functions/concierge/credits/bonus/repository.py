"""Firestore: who has had the bonus, how many went where, and what was withheld. Hashes and user ids only.

bonusClaims/{hash}            {uid, at}                one for each identity and device of somebody who was granted it
bonusVelocity/{hash}~{day}    {count, expireAt}        bonuses granted to one network or domain on one day (UTC)
bonusReviews/{uid}            {state, points, reasons, at, decisionId?, decidedBy?, decidedAt?, note?}
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.api_core import exceptions as google_exceptions
from google.cloud import firestore

from concierge import paths
from concierge.credits.bonus.people import Person
from concierge.ledger.repository import Write

_VELOCITY_RETENTION = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Found:
    """What Firestore holds about a claim, as of one moment."""

    claims: dict[str, Any]
    velocities: dict[str, Any]
    review: Any

    def claimed_by_other(self, hashes: Iterable[str], uid: str) -> bool:
        return any(self.claims[item].exists and self.claims[item].get("uid") != uid for item in hashes)

    def grants(self, scope: str | None) -> int | None:
        """Bonuses granted in a network or domain today and yesterday."""
        if scope is None:
            return None
        counted = [snapshot for key, snapshot in self.velocities.items() if key.startswith(scope)]
        return sum(int(snapshot.get("count")) for snapshot in counted if snapshot.exists)


class BonusRepository:
    """Reads, and the writes that go along with a grant."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client

    def review_reference(self, uid: str) -> Any:
        return self._client.collection(paths.BONUS_REVIEWS).document(uid)

    def find(self, person: Person, now: datetime) -> Found:
        """Everything that a decision looks at, in one round trip."""
        claims = {item: self._claim(item) for item in person.identities | person.devices}
        velocities = {
            key: self._client.collection(paths.BONUS_VELOCITY).document(key)
            for scope in (person.network, person.domain)
            if scope is not None
            for key in (_velocity_key(scope, now), _velocity_key(scope, now - timedelta(days=1)))
        }
        review = self.review_reference(person.uid)
        wanted = [*claims.values(), *velocities.values(), review]
        snapshots = {snapshot.reference.path: snapshot for snapshot in self._client.get_all(wanted)}
        return Found(
            {item: snapshots[reference.path] for item, reference in claims.items()},
            {key: snapshots[reference.path] for key, reference in velocities.items()},
            snapshots[review.path],
        )

    def claims_of(self, uid: str) -> list[tuple[str, dict[str, Any]]]:
        """The claims of one user, by their hashes: as many as somebody has identities and devices."""
        query = self._client.collection(paths.BONUS_CLAIMS).where(filter=firestore.FieldFilter("uid", "==", uid))
        return sorted(((snapshot.id, snapshot.to_dict()) for snapshot in query.stream()), key=lambda claim: claim[0])

    def grant_writes(self, person: Person, found: Found, now: datetime, decision: dict[str, Any]) -> list[Write]:
        """The claims, the counts and the review of a grant: written with it, and only if all is as it was found."""
        writes = [
            Write.create(self._claim(item), {"uid": person.uid, "at": now})
            for item, snapshot in found.claims.items()
            if not snapshot.exists
        ]
        for scope in (person.network, person.domain):
            if scope is not None:
                snapshot = found.velocities[_velocity_key(scope, now)]
                count = snapshot.get("count") if snapshot.exists else 0
                document = {"count": count + 1, "expireAt": now + _VELOCITY_RETENTION}
                writes.append(Write.replace(snapshot, document))
        if found.review.exists:
            writes.append(Write.replace(found.review, {**found.review.to_dict(), **decision, "decidedAt": now}))
        return writes

    def remember(self, person: Person, now: datetime) -> int:
        """Adds claims for what is new about somebody who has the bonus; how many."""
        added = 0
        claims = [self._claim(item) for item in sorted(person.identities | person.devices)]
        for snapshot in self._client.get_all(claims):
            if snapshot.exists:
                continue
            try:
                snapshot.reference.create({"uid": person.uid, "at": now})
                added += 1
            except google_exceptions.AlreadyExists:
                continue
        return added

    def withhold(self, uid: str, points: int, reasons: list[str], state: str, now: datetime) -> bool:
        """Puts a withheld bonus down for review; True if it is news. What was decided is left alone."""
        reference = self.review_reference(uid)
        snapshot = reference.get()
        document = {"state": state, "points": points, "reasons": reasons, "at": now}
        known = snapshot.to_dict() if snapshot.exists else None
        if known is not None and (known["state"] not in ("withheld", "duplicate") or known["reasons"] == reasons):
            return False
        try:
            if known is None:
                reference.create(document)
            else:
                reference.update(document, option=self._client.write_option(last_update_time=snapshot.update_time))
        except (google_exceptions.AlreadyExists, google_exceptions.FailedPrecondition):
            # Somebody else was faster, with the same or with newer reasons.
            return False
        return True

    def reviews(self, state: str, after: str | None, limit: int) -> list[tuple[str, dict[str, Any]]]:
        """Reviews in a state, in the order of their users' ids, from the one after `after`."""
        query = (
            self._client.collection(paths.BONUS_REVIEWS)
            .where(filter=firestore.FieldFilter("state", "==", state))
            .order_by("__name__")
            .limit(limit)
        )
        if after is not None:
            query = query.start_after({"__name__": self.review_reference(after)})
        return [(snapshot.id, snapshot.to_dict()) for snapshot in query.stream()]

    def reject(self, snapshot: Any, decision: dict[str, Any]) -> bool:
        """False if the review has changed since it was read."""
        option = self._client.write_option(last_update_time=snapshot.update_time)
        try:
            snapshot.reference.update(decision, option=option)
        except google_exceptions.FailedPrecondition:
            return False
        return True

    def _claim(self, identity_hash: str) -> Any:
        return self._client.collection(paths.BONUS_CLAIMS).document(identity_hash)


def _velocity_key(scope: str, at: datetime) -> str:
    return f"{scope}~{at:%Y-%m-%d}"
