"""The claim of the welcome bonus and its grant, in one commit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from concierge.credits.bonus.people import People, Person
from concierge.credits.bonus.repository import BonusRepository, Found
from concierge.credits.bonus.scoring import Observation, Policy, Score, score
from concierge.credits.mirror import BalanceMirror
from concierge.errors import ConciergeError
from concierge.kit.logging import log
from concierge.ledger.appender import Appended
from concierge.ledger.repository import Write
from concierge.ledger.service import Ledger, Posting

WELCOME_OP_ID = "welcome-bonus"
COUNTER_BONUS = "expense:bonus"

BonusState = Literal["granted", "already_granted", "withheld", "duplicate", "disabled"]


@dataclass(frozen=True, slots=True)
class BonusOutcome:
    """What became of a claim. `posting` is the grant's, where there is one."""

    state: BonusState
    posting: Posting | None = None
    score: Score | None = None


class _NotGranted(ConciergeError):
    """Ends the commit of a grant that the score does not allow; never leaves this module."""

    def __init__(self, found: Score) -> None:
        super().__init__("The bonus is not granted.")
        self.score = found


class WelcomeBonus:
    """`amount` in microcredits; 0 switches the bonus off, and accounts then open with their first purchase."""

    def __init__(
        self,
        ledger: Ledger,
        people: Callable[[], People],
        repository: BonusRepository,
        mirror: BalanceMirror,
        policy: Policy,
        *,
        amount: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.ledger = ledger
        self.amount = amount
        self._people = people
        self._repository = repository
        self._mirror = mirror
        self._policy = policy
        self._now = now

    def open_account(self, uid: str) -> Posting | None:
        """For a request of somebody without an account: the grant's posting, None if there is none. Raises
        Unavailable."""
        return self.claim(uid, None).posting

    def claim(self, uid: str, address: str | None, *, remember: bool = False) -> BonusOutcome:
        """Grants the bonus unless this person has had it, under this account or another one, or too much speaks against
        it. Sign-up is never refused. However many claims there are, one grant comes of them. Raises Unavailable.

        `address` is where the call comes from. With `remember`, what is new about somebody who has the bonus is noted
        as theirs, so that no other account gets one by it.
        """
        if self.amount == 0:
            return BonusOutcome("disabled")
        existing = self.ledger.outcome(uid, WELCOME_OP_ID)
        if existing is not None:
            if remember:
                self._repository.remember(self._people().find(uid, address), self._now())
            # The amount may have been changed by a deploy since; the account keeps what it was given.
            return BonusOutcome("already_granted", Posting(existing, replayed=True))
        person = self._people().find(uid, address)
        try:
            posting = self.ledger.credit(
                uid,
                op_id=WELCOME_OP_ID,
                kind="grant",
                amount=self.amount,
                counter=COUNTER_BONUS,
                beside=lambda appended: self._decide(person, appended),
            )
        except _NotGranted as refused:
            return self._withhold(uid, refused.score)
        return BonusOutcome("already_granted" if posting.replayed else "granted", posting)

    def _decide(self, person: Person, appended: Appended) -> Sequence[Write]:
        """The claims to be written with the grant. Runs again if any of what it saw has changed before the commit."""
        found = self._repository.find(person, appended.at)
        result = score(observe(person, found), self._policy)
        if result.verdict != "granted":
            raise _NotGranted(result)
        return self._repository.grant_writes(person, found, appended.at, {"state": "granted", "decidedBy": "system"})

    def _withhold(self, uid: str, found: Score) -> BonusOutcome:
        state: BonusState = "duplicate" if found.verdict == "duplicate" else "withheld"
        if self._repository.withhold(uid, found.points, list(found.reasons), state, self._now()):
            log("WARNING", "bonus.withheld", uid=uid, points=found.points, reasons=found.reasons)
        # They have an account all the same, with nothing in it.
        self._mirror.show_empty(uid)
        return BonusOutcome(state, score=found)


def observe(person: Person, found: Found) -> Observation:
    """What the score is made of."""
    return Observation(
        exists=person.exists,
        identified=bool(person.identities),
        email_verified=person.email_verified,
        has_email=person.has_email,
        disposable=person.disposable,
        identity_claimed=found.claimed_by_other(person.identities, person.uid),
        device_claimed=found.claimed_by_other(person.devices, person.uid),
        has_device=bool(person.devices),
        network_grants=found.grants(person.network),
        domain_grants=found.grants(person.domain),
        rejected=found.review.exists and found.review.get("state") == "rejected",
    )
