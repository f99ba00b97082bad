"""What administrators decide of withheld bonuses, each once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from concierge.credits.bonus.people import People, Person
from concierge.credits.bonus.repository import BonusRepository
from concierge.credits.bonus.service import COUNTER_BONUS, WELCOME_OP_ID, WelcomeBonus
from concierge.errors import Conflict, NotFound
from concierge.kit.logging import log
from concierge.ledger.appender import Appended
from concierge.ledger.repository import Write
from concierge.ledger.service import Posting

_OPEN = ("withheld", "duplicate")


@dataclass(frozen=True, slots=True)
class Review:
    """A withheld bonus: `state` is withheld, duplicate, granted or rejected."""

    uid: str
    state: str
    points: int
    reasons: tuple[str, ...]
    at: datetime
    decided_by: str | None
    note: str | None


class BonusReviews:
    """Lists, grants, rejects."""

    def __init__(
        self,
        bonus: WelcomeBonus,
        people: Callable[[], People],
        repository: BonusRepository,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bonus = bonus
        self._people = people
        self._repository = repository
        self._now = now

    def list_reviews(self, state: str, *, after: str | None, limit: int) -> list[Review]:
        """Reviews in one state, in the order of the users' ids."""
        return [_review(uid, document) for uid, document in self._repository.reviews(state, after, limit)]

    def grant(self, uid: str, *, decision_id: str, actor: str, note: str) -> Posting:
        """Grants what was withheld, whatever the score. The same decision again finds its grant. Raises NotFound if
        nothing was withheld, Conflict if it is decided or there is no bonus any more."""
        if self._bonus.amount == 0:
            raise Conflict("The welcome bonus is switched off.")
        person = self._people().find(uid, None)

        def beside(appended: Appended) -> Sequence[Write]:
            found = self._repository.find(person, appended.at)
            _require_open(found.review)
            decision = {"state": "granted", "decisionId": decision_id, "decidedBy": actor, "note": note}
            return self._repository.grant_writes(_countless(person), found, appended.at, decision)

        granted = self._bonus.ledger.outcome(uid, WELCOME_OP_ID)
        if granted is not None:
            if _decided_by(self._repository.review_reference(uid).get(), decision_id):
                return Posting(granted, replayed=True)
            raise Conflict("This bonus has been granted.")
        posting = self._bonus.ledger.credit(
            uid,
            op_id=WELCOME_OP_ID,
            kind="grant",
            amount=self._bonus.amount,
            counter=COUNTER_BONUS,
            beside=beside,
        )
        log("WARNING", "bonus.granted_by_review", uid=uid, actor=actor)
        return posting

    def reject(self, uid: str, *, decision_id: str, actor: str, note: str) -> None:
        """Keeps it withheld for good. The same decision again changes nothing. Raises NotFound if nothing was withheld,
        Conflict if it is decided."""
        snapshot = self._repository.review_reference(uid).get()
        if _decided_by(snapshot, decision_id):
            return
        _require_open(snapshot)
        decision = {"state": "rejected", "decisionId": decision_id, "decidedBy": actor, "note": note}
        if not self._repository.reject(snapshot, {**decision, "decidedAt": self._now()}):
            raise Conflict("This review is being decided by somebody else.")
        log("WARNING", "bonus.rejected_by_review", uid=uid, actor=actor)


def _decided_by(snapshot: Any, decision_id: str) -> bool:
    return (snapshot.to_dict() or {}).get("decisionId") == decision_id


def _require_open(snapshot: Any) -> None:
    if not snapshot.exists:
        raise NotFound("No bonus of this user was withheld.")
    if snapshot.get("state") not in _OPEN:
        raise Conflict("This review has been decided.")


def _countless(person: Person) -> Person:
    """An administrator's grant is no sign of a farm."""
    return Person(person.uid, identities=person.identities, devices=person.devices)


def _review(uid: str, document: dict[str, Any]) -> Review:
    return Review(
        uid=uid,
        state=document["state"],
        points=document["points"],
        reasons=tuple(document["reasons"]),
        at=document["at"],
        decided_by=document.get("decidedBy"),
        note=document.get("note"),
    )
