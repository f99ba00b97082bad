"""`make simulate`: many seeds, or one again; and many journeys over the whole stack, or one again."""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from chaos.instances import MakeLedger, make_ledger
from chaos.journeys import Journey, JourneyFailure, JourneyOutcome
from chaos.network import Network
from chaos.simulation import Outcome, SimulationFailure, run_seed
from conftest import running_backend
from support.provider import ScriptedProvider


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds of the ledger's simulation")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--journeys", type=int, default=0, help="how many journeys over the whole stack")
    parser.add_argument("--journey", type=int, help="this one alone")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no seed after this time")
    arguments = parser.parse_args()
    if arguments.journey is not None:
        return journeys(range(arguments.journey, arguments.journey + 1), arguments.seconds)
    if arguments.seed is not None:
        return simulate(range(arguments.seed, arguments.seed + 1), arguments.seconds, is_single=True)
    failed = 0
    if arguments.seeds:
        failed = simulate(range(arguments.first, arguments.first + arguments.seeds), arguments.seconds, is_single=False)
    if arguments.journeys:
        failed |= journeys(range(arguments.first, arguments.first + arguments.journeys), arguments.seconds)
    return failed


def simulate(seeds: range, seconds_max: float, *, is_single: bool, make: MakeLedger = make_ledger) -> int:
    """Runs seeds one after the other; the exit code. Says what failed and how to replay it, and a summary."""
    network = Network()
    outcomes: list[Outcome] = []
    failed: list[int] = []
    started, processor = time.perf_counter(), time.process_time()
    try:
        for seed in seeds:
            if time.perf_counter() - started > seconds_max:
                break
            try:
                # What the ledger logs of the faults it meets is expected here.
                with contextlib.redirect_stderr(io.StringIO()):
                    outcomes.append(run_seed(seed, network, make))
            except SimulationFailure as failure:
                failed.append(seed)
                print(f"{failure}\n", flush=True)
        seconds = time.perf_counter() - started
        share = network.seconds_in_firestore() / (time.process_time() - processor)
    finally:
        network.close()
    if is_single and outcomes:
        print(f"seed {outcomes[0].seed}: profile {outcomes[0].profile}, digest {outcomes[0].digest}")
    print(summary(outcomes, failed, seconds, share))
    return 1 if failed else 0


def journeys(seeds: range, seconds_max: float) -> int:
    """The same for journeys."""
    outcomes: list[JourneyOutcome] = []
    failed: list[int] = []
    with (
        tempfile.TemporaryDirectory(prefix="concierge-journeys-") as folder,
        ScriptedProvider().running() as provider,
        running_backend(provider, Path(folder)) as backend,
    ):
        started = time.perf_counter()
        for seed in seeds:
            if time.perf_counter() - started > seconds_max:
                break
            try:
                outcomes.append(Journey(seed, backend, provider).run())
            except JourneyFailure as failure:
                failed.append(seed)
                print(f"{failure}\n", flush=True)
            backend.close_clients()
        seconds = time.perf_counter() - started
    statuses = Counter(status for outcome in outcomes for status in outcome.statuses)
    points = Counter(outcome.point for outcome in outcomes)
    count = len(outcomes) + len(failed)
    print(
        f"{count} journeys, {sum(outcome.requests for outcome in outcomes)} requests in {seconds:.1f} s: "
        f"{60 * count / seconds:.1f} journeys a minute\n"
        f"crashes: {_listed(points)}\nended: {_listed(statuses)}\n{_verdict('journey', failed)}"
    )
    return 1 if failed else 0


def summary(outcomes: list[Outcome], failed: list[int], seconds: float, share: float) -> str:
    """Some lines of text, and one of JSON for who collects them. `share` is the part of the processor time that the
    embedded Firestore took."""
    totals: dict[str, Counter[str]] = {name: Counter() for name in ("answers", "points", "crashes", "faults")}
    for outcome in outcomes:
        for name, counter in totals.items():
            counter.update(getattr(outcome, name))
    calls = sum(outcome.calls for outcome in outcomes)
    count = len(outcomes) + len(failed)
    figures = {
        "seeds": count,
        "failed": failed,
        "operations": calls,
        "steps": sum(outcome.steps for outcome in outcomes),
        "audits": sum(outcome.audits for outcome in outcomes),
        "seconds": round(seconds, 2),
        "seedsPerMinute": round(60 * count / seconds, 1),
        "historiesPerSecond": round(count / seconds, 2),
        "operationsPerSecond": round(calls / seconds, 1),
        "shareInFirestore": round(share, 3),
        **{name: dict(sorted(counter.items())) for name, counter in totals.items()},
    }
    return (
        f"{count} seeds, {calls} operations, {sum(totals['crashes'].values())} crashes, "
        f"{sum(totals['faults'].values())} faults in {seconds:.1f} s: {count / seconds:.2f} histories and "
        f"{calls / seconds:.0f} operations a second, {share:.0%} of the processor time in Firestore\n"
        f"crashes: {_listed(totals['crashes'])}\nfaults: {_listed(totals['faults'])}\n"
        f"{_verdict('seed', failed)}\n{json.dumps(figures)}"
    )


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"


def _verdict(name: str, failed: list[int]) -> str:
    return f"failed {name}s: {', '.join(map(str, failed))}" if failed else f"no {name} failed"


if __name__ == "__main__":
    sys.exit(main())
