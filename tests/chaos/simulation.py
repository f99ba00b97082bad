"""One seed: several instances of the ledger over one Firestore, their crashes, faults and clocks, and the audit.

The seed decides what is asked for, who runs next at every call of Firestore and at every fault point, what each call
meets, and what every clock shows. So a seed that fails fails again.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, NoReturn

from chaos.auditor import Auditor
from chaos.baton import Baton, Crash, Task
from chaos.calls import Answer, Call, Seen
from chaos.checkpoints import audit_checkpoints
from chaos.histories import History, Wish, draw_profile
from chaos.instances import LIFETIME, LIFETIME_MAX, SIGNING_KEY, Instance, MakeLedger, make_ledger
from chaos.network import Network, Send
from chaos.points import aim_of
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.api_core import exceptions as google_exceptions

from concierge.kit import faults

_SHOWN = 40
_AUDIT_EVERY = 12
_OUTAGE_RPCS = 60
_SWEEP = 20
_PUBLIC_KEY = Ed25519PrivateKey.from_private_bytes(base64.b64decode(SIGNING_KEY)).public_key()


@dataclass(slots=True)
class Outcome:
    """What a seed did. `digest` tells two runs apart: it covers every call, answer and stored entry."""

    seed: int
    profile: str
    calls: int = 0
    steps: int = 0
    audits: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    digest: str = ""


class SimulationFailure(AssertionError):
    """A seed that found something; the message says what, how to replay it, and what happened last."""

    def __init__(self, seed: int, problems: list[str], calls: list[Call]) -> None:
        shown = "\n".join(f"  {call}" for call in calls[-_SHOWN:])
        found = "\n".join(f"  {problem}" for problem in problems[:12])
        super().__init__(
            f"seed {seed} found {len(problems)} problems:\n{found}\n"
            f"The last {min(len(calls), _SHOWN)} of {len(calls)} calls, as they were sent:\n{shown}\n"
            f"Replay it with: make simulate SEED={seed}"
        )
        self.seed = seed
        self.problems = problems


def run_seed(seed: int, network: Network, make: MakeLedger = make_ledger) -> Outcome:
    """Runs one seed. Raises SimulationFailure. `make` builds the ledgers, for who wants to see broken ones found."""
    simulation = Simulation(seed, network, make)
    try:
        return simulation.run()
    except SimulationFailure:
        raise
    except Exception as error:
        raise SimulationFailure(seed, [f"{type(error).__name__}: {error}"], simulation.calls) from error
    finally:
        simulation.close()


class Simulation:
    """The director of one seed: it is asked at every step what happens there."""

    def __init__(self, seed: int, network: Network, make: MakeLedger) -> None:
        self._make = make
        self._random = Random(seed)
        self._aim = aim_of(seed)
        aims_at_checkpoints = self._aim.startswith("checkpoint.")
        self._aim_visits = self._random.randint(1, 2 if aims_at_checkpoints else 12)
        self._profile = draw_profile(self._random, checkpoints=aims_at_checkpoints)
        self._history = History(self._random, self._profile)
        self._network = network
        # The ledger's name is part of every entry, and must be the same when a seed is replayed.
        self.project = f"sim-{seed}"
        self.auditor = Auditor(self.project, _PUBLIC_KEY, lifetime=LIFETIME, lifetime_max=LIFETIME_MAX)
        self._bucket = cache(network.new_bucket)
        self._baton = Baton()
        self._time_ms = 0
        self._is_calm = False
        self._active: dict[Task, tuple[Instance, Call]] = {}
        self._late: list[tuple[Call, Send]] = []
        self._outage: tuple[Call, int] | None = None
        self._instances = [self._new_instance(f"i{number}") for number in range(self._profile.instances)]
        self.calls: list[Call] = []
        self.outcome = Outcome(seed, self._profile.name)

    def run(self) -> Outcome:
        with (
            self._network.directed(self._on_rpc),
            faults.observed(self._on_point),
            self._baton.instead_of_sleep(),
        ):
            self._live()
            self._settle()
            self._ask_again()
        self._final_audit()
        return self._concluded()

    def close(self) -> None:
        self._is_calm = True
        with self._network.directed(self._on_rpc), self._baton.instead_of_sleep():
            self._baton.end()
        self._network.forget(self.project)

    # The course of things.

    def _live(self) -> None:
        """Until as many operations as the seed wants were sent, and all have ended."""
        left, audited = self._profile.operations, 0
        while left or self._baton.running:
            self.outcome.steps += 1
            self._pass_time()
            idle = [instance for instance in self._instances if not instance.is_busy]
            running = self._baton.running
            if self._late and self._random.random() < 0.1:
                self._deliver(self._late.pop(self._random.randrange(len(self._late))))
            elif left and idle and (not running or self._random.random() < 0.3):
                left -= 1
                self._ask(self._random.choice(idle))
            else:
                self._baton.resume(self._random.choice(running))
            ended = sum(call.answer is not None for call in self.calls)
            if ended >= audited + _AUDIT_EVERY:
                audited = ended
                self._audit(is_settled=False)

    def _settle(self) -> None:
        """Faults are over, every hold's time is up, and a sweep runs until nothing is due."""
        self._is_calm = True
        while self._late:
            call_and_send = self._late.pop(0)
            if self._random.random() < 0.5:
                self._deliver(call_and_send)
            else:
                self._lose(call_and_send[0])
        self._time_ms += int(LIFETIME_MAX.total_seconds() * 1000) + 60_000
        instance = self._new_instance("sweeper")
        for _ in range(100):
            before = len(self.calls)
            self._finish(self._baton.start("sweeper", lambda: self._sweep(instance)))
            if len(self.calls) == before:
                break

    def _ask_again(self) -> None:
        """After a top-up everything that was refused stays refused, and what was done stays what it was."""
        instance = self._new_instance("again")
        known = [call for call in self.calls if call.accounts and call.answer is not None]
        refused = [call for call in known if call.answer and call.answer.said == "refused"]
        for uid in sorted({uid for call in refused for uid in call.accounts}):
            body = {"kind": "purchase", "amount": 10_000, "counter": "liability:stripe", "memo": None}
            self._perform_now(instance, Wish("credit", (uid,), f"top-up-{uid}", body))
        others = self._random.sample(known, min(6, len(known)))
        for call in [*self._random.sample(refused, min(6, len(refused))), *others]:
            if call.action not in ("extend", "take_over", "expire"):
                self._perform_now(instance, Wish(call.action, call.accounts, call.id, call.body))
        self._time_ms += int(LIFETIME_MAX.total_seconds() * 1000) + 60_000
        self._finish(self._baton.start("sweeper", lambda: self._sweep(instance)))
        if self._profile.checkpoints:
            for _ in range(2):
                self._perform_now(instance, Wish("checkpoint", (), "", {}))

    def _final_audit(self) -> None:
        self._audit(is_settled=True)
        checker = self._new_instance("checker").ledger
        found = []
        for uid in sorted({uid for call in self.calls for uid in call.accounts}):
            findings = checker.verify(uid).findings
            found += [f"{uid} does not verify: {finding}" for finding in findings]
        if found:
            raise SimulationFailure(self.outcome.seed, found, self.calls)

    def _audit(self, *, is_settled: bool) -> None:
        self.outcome.audits += 1
        documents = self._network.documents(self.project)
        problems = self.auditor.audit(self.calls, documents, is_settled=is_settled)
        if not problems:
            books = self.auditor.open_books(documents)
            problems = list(audit_checkpoints(books, documents, is_settled=is_settled and self._profile.checkpoints))
        if problems:
            raise SimulationFailure(self.outcome.seed, problems, self.calls)

    def _concluded(self) -> Outcome:
        outcome = self.outcome
        outcome.calls = len(self.calls)
        outcome.answers.update(call.answer.said for call in self.calls if call.answer is not None)
        heads = sorted(
            (path, document["headHash"])
            for path, document in self._network.documents(self.project).items()
            if path.startswith("accounts/") and path.count("/") == 1
        )
        told = "\n".join([*(str(call) for call in self.calls), *(str(head) for head in heads)])
        outcome.digest = hashlib.sha256(told.encode()).hexdigest()
        return outcome

    # Operations.

    def _new_instance(self, name: str) -> Instance:
        instance = Instance(
            name=name,
            ledger_id=self.project,
            client=lambda: self._network.client(self.project),
            bucket=self._bucket,
            clock_ms=lambda: self._time_ms,
            make=self._make,
        )
        instance.start()
        return instance

    def _ask(self, instance: Instance) -> None:
        wish: Wish | None
        if self._profile.checkpoints and self._random.random() < 0.08:
            wish = Wish("checkpoint", (), "", {})
        else:
            wish = self._history.next(self.calls)
        work: Callable[[], Any] = (
            (lambda: self._sweep(instance)) if wish is None else (lambda: self._perform(instance, wish))
        )
        instance.is_busy = True
        self._baton.start(instance.name, work)

    def _perform_now(self, instance: Instance, wish: Wish) -> None:
        self._finish(self._baton.start(instance.name, lambda: self._perform(instance, wish)))

    def _finish(self, task: Task) -> None:
        while not task.over:
            self._baton.resume(task)

    def _sweep(self, instance: Instance) -> None:
        """As the scheduled sweeper does: what is due, then each by itself."""
        instance.is_busy = True
        task = self._baton.mine()
        assert task is not None
        try:
            due = instance.ledger.due_holds(_SWEEP)
        except google_exceptions.GoogleAPICallError:
            due = []
        for hold in due:
            self._perform(instance, Wish("expire", (hold.uid,), hold.hold_id, {}))
            instance.is_busy = True
        instance.is_busy = False

    def _perform(self, instance: Instance, wish: Wish) -> None:
        """In a task: one call, from its sending to its answer."""
        task = self._baton.mine()
        assert task is not None
        now = instance.now()
        call = Call(
            number=len(self.calls) + 1,
            instance=instance.name,
            action=wish.action,
            accounts=wish.accounts,
            id=wish.id,
            body=wish.body,
            before=self._seen(wish),
            now_min=now,
            now_max=now,
        )
        self.calls.append(call)
        self._active[task] = (instance, call)
        try:
            answer = instance.perform(call)
        except Crash:
            instance.start()
            answer = Answer("crashed")
            raise
        except Exception as error:
            answer = Answer("crashed", {"error": repr(error)})
            raise
        finally:
            call.answer = answer
            call.after = self._seen(wish)
            del self._active[task]
            instance.is_busy = False
        if answer.said == "unanswered" and not self._is_calm and call.rpcs < 5 and not call.faults:
            raise AssertionError(f"unanswered without any reason: {call}")
        if answer.said == "unanswered" and self._is_calm:
            raise AssertionError(f"unanswered after the faults were over: {call}")
        self._history.note(call)

    def _seen(self, wish: Wish) -> Seen:
        heads = {uid: self._network.document(self.project, f"accounts/{uid}") for uid in wish.accounts}
        hold = None
        if wish.accounts and wish.action not in ("credit", "clawback", "adjust", "freeze", "unfreeze", "transfer"):
            hold = self._network.document(self.project, f"accounts/{wish.accounts[0]}/holds/{wish.id}")
        return Seen({uid: head["seq"] if head is not None else 0 for uid, head in heads.items()}, hold)

    # Steps, called by tasks.

    def _on_point(self, name: str) -> None:
        """A fault point of the code under test."""
        if self._baton.mine() is None:
            return
        self.outcome.points[name] += 1
        self._pause()
        if name == self._aim and not self._is_calm:
            self._aim_visits -= 1
            if not self._aim_visits:
                self._crash(name)
        self._may_crash(name)

    def _on_rpc(self, rpc: str, send: Send) -> Any:
        """A call of Firestore that is about to be sent."""
        task = self._baton.mine()
        if task is None:
            return send()
        self._pause()
        if task not in self._active:
            return send()
        call = self._active[task][1]
        call.rpcs += 1
        self._may_crash(f"before {rpc}")
        fate = self._fate(call, rpc)
        if fate == "late":
            call.late += 1
            self._late.append((call, send))
            raise google_exceptions.DeadlineExceeded("The answer does not come in time.")
        if fate is not None:
            self._network.plan(rpc, fate)
        answer = send()
        if fate is not None:
            self._network.await_met()
        self._may_crash(f"after {rpc}")
        return answer

    def _pause(self) -> None:
        """Others go on. Afterwards the clock may show another time."""
        self._baton.pause()
        task = self._baton.mine()
        if task in self._active:
            instance, call = self._active[task]
            now = instance.now()
            call.now_min, call.now_max = min(call.now_min, now), max(call.now_max, now)

    def _fate(self, call: Call, rpc: str) -> str | None:
        """The fault that a call of Firestore meets, if any."""
        if self._is_calm:
            return None
        if self._outage is not None and self._outage[0] is call:
            left = self._outage[1] - 1
            self._outage = (call, left) if left else None
            return "abort"
        if self._random.random() >= self._profile.fault:
            return None
        fates = ["error", "error_after", "abort", "late"] if rpc == "Commit" else ["error", "abort"]
        fate = self._random.choice(fates)
        if self._random.random() < 0.05:
            self._outage, fate = (call, _OUTAGE_RPCS), "abort"
        self.outcome.faults[f"{rpc} {fate}"] += 1
        call.faults.append(f"{rpc} {fate}")
        return fate

    def _may_crash(self, where: str) -> None:
        if not self._is_calm and self._random.random() < self._profile.crash:
            self._crash(where)

    def _crash(self, where: str) -> NoReturn:
        task = self._baton.mine()
        if task in self._active:
            self._active[task][1].faults.append(f"crash {where}")
        self.outcome.crashes[where] += 1
        raise Crash

    # Time and lateness.

    def _pass_time(self) -> None:
        self._time_ms += self._random.randint(0, 300)
        if self._random.random() < self._profile.jump:
            self._time_ms += self._random.randint(1_000, 80_000)
        if self._random.random() < self._profile.jump:
            # Clocks of instances are set right now and then, also backwards.
            self._random.choice(self._instances).skew_ms = self._random.randint(-20_000, 20_000)

    def _deliver(self, late: tuple[Call, Send]) -> None:
        """What nobody waits for any more arrives."""
        call, send = late
        send()
        self._lose(call)

    def _lose(self, call: Call) -> None:
        call.late -= 1
        if call.answer is not None:
            call.after = self._seen(Wish(call.action, call.accounts, call.id, call.body))
