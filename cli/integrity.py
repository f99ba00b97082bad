"""`concierge ledger replay`, `repair` and `backup`: with an operator's credentials, straight on Firestore."""

import getpass

from cli.guard import guarded
from concierge import wiring
from concierge.kit.microcredits import show
from concierge.ledger.integrity.replay import Damage


def replay(uid: str | None) -> int:
    """Rebuilds one account, or all of them, from entries alone, and prints every difference; 0 if there is none."""
    return guarded("replay", lambda: 0 if (_replay_all() if uid is None else _replay(uid)) else 1)


def repair(uid: str, *, apply: bool, reason: str) -> int:
    """Prints what a repair would do, or does it; 0 if nothing is wrong afterwards."""

    def act() -> int:
        integrity = wiring.integrity()
        actor = f"operator:{getpass.getuser()}"
        outcome = integrity.repair(uid, actor=actor, reason=reason) if apply else integrity.plan_repair(uid)
        _print_damages(outcome.before)
        for action in outcome.actions:
            print(f"{uid}: {action}" if apply else f"{uid}: would do: {action}")
        if not outcome.before and not outcome.quarantined and not outcome.actions:
            print(f"{uid}: nothing to repair")
        elif apply:
            print(f"{uid}: {'repaired' if outcome.repaired else 'NOT REPAIRED'}")
            _print_damages(outcome.after)
        else:
            print("Nothing was written. Repair with --apply.")
        return 0 if outcome.repaired else 1

    return guarded("repair", act)


def backup() -> int:
    """Saves what is not saved yet; 0 unless an account could not be saved."""

    def act() -> int:
        report = wiring.integrity().backups.run(rotation_accounts=10_000)
        print(", ".join(f"{outcome}: {count}" for outcome, count in sorted(report.items())) or "nothing to save")
        return 1 if report["damaged"] or report["error"] else 0

    return guarded("backup", act)


def _replay_all() -> bool:
    sound = total = 0
    for uid in wiring.integrity().uids():
        total += 1
        sound += _replay(uid, quietly=True)
    print(f"{total} accounts, {total - sound} with differences")
    return sound == total


def _replay(uid: str, *, quietly: bool = False) -> bool:
    found = wiring.integrity().replay(uid)
    head = found.progress.head
    if not quietly or found.damages:
        print(f"{uid}: {found.entries} entries, posted {show(head.posted)}, held {show(head.held)}")
    _print_damages(found.damages)
    if not quietly:
        print("as stored" if not found.damages else "DIFFERENT")
    return not found.damages


def _print_damages(damages: list[Damage]) -> None:
    for damage in damages:
        print(f"{damage.uid}: entry {damage.seq}: {damage.code}: {damage.message}")
