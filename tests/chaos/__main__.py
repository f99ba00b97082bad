"""`make simulate`: many seeds, or one again."""

import argparse
import contextlib
import io
import json
import sys
import time
from collections import Counter

from chaos.network import Network
from chaos.simulation import Outcome, SimulationFailure, run_seed


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone, with everything that it does")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no seed after this time")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if arguments.seed is not None:
        seeds = range(arguments.seed, arguments.seed + 1)
    return simulate(seeds, arguments.seconds, is_single=arguments.seed is not None)


def simulate(seeds: range, seconds_max: float, *, is_single: bool) -> int:
    """Runs seeds one after the other; the exit code. Says what failed and how to replay it, and a summary."""
    network = Network()
    outcomes: list[Outcome] = []
    failed: list[int] = []
    started = time.perf_counter()
    try:
        for seed in seeds:
            if time.perf_counter() - started > seconds_max:
                break
            try:
                # What the ledger logs of the faults it meets is expected here.
                with contextlib.redirect_stderr(io.StringIO()):
                    outcomes.append(run_seed(seed, network))
            except SimulationFailure as failure:
                failed.append(seed)
                print(f"{failure}\n", flush=True)
        seconds = time.perf_counter() - started
        in_firestore = network.seconds_in_firestore()
    finally:
        network.close()
    if is_single and outcomes:
        print(f"seed {outcomes[0].seed}: profile {outcomes[0].profile}, digest {outcomes[0].digest}")
    print(summary(outcomes, failed, seconds, in_firestore))
    return 1 if failed else 0


def summary(outcomes: list[Outcome], failed: list[int], seconds: float, in_firestore: float) -> str:
    """Some lines of text, and one of JSON for who collects them."""
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
        "shareInFirestore": round(in_firestore / seconds, 3),
        **{name: dict(sorted(counter.items())) for name, counter in totals.items()},
    }
    crashes = ", ".join(f"{name} {count}" for name, count in sorted(totals["crashes"].items())) or "none"
    met = ", ".join(f"{name} {count}" for name, count in sorted(totals["faults"].items())) or "none"
    return (
        f"{count} seeds, {calls} operations, {sum(totals['crashes'].values())} crashes, "
        f"{sum(totals['faults'].values())} faults in {seconds:.1f} s: {count / seconds:.2f} histories and "
        f"{calls / seconds:.0f} operations a second, {in_firestore / seconds:.0%} of the time in Firestore\n"
        f"crashes: {crashes}\nfaults: {met}\n"
        f"{'failed seeds: ' + ', '.join(map(str, failed)) if failed else 'no seed failed'}\n"
        f"{json.dumps(figures)}"
    )


if __name__ == "__main__":
    sys.exit(main())
