"""`concierge ledger ...`: with an operator's credentials, straight on Firestore."""

from concierge import wiring
from concierge.errors import Configuration
from concierge.kit.microcredits import show


def verify(uid: str) -> int:
    """Replays one account; 0 if it verifies."""
    try:
        verification = wiring.ledger().verify(uid)
    except Configuration as error:
        print(error.message)
        return 2
    head = verification.head
    print(f"{uid}: {verification.entries} entries, posted {show(head.posted)}, held {show(head.held)}")
    for finding in verification.findings:
        print(f"entry {finding.seq}: {finding.code}: {finding.message}")
    print("verified" if verification.verified else "NOT VERIFIED")
    return 0 if verification.verified else 1
