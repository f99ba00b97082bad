"""`python -m bench`: measures every budget, prints the table, writes bench/results/latest.json and latest.svg
(or partial.* after `--only` or an interruption).

Each figure is measured beside its floor in this one run. A budget that is missed is marked and is no error; the exit
code is 1 only if something could not be measured. The run ends by itself: sampling is bounded, and so is the whole.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from bench import chart, table
from bench.benchmarks import (
    boot,
    cancel,
    checkpoint,
    classifier,
    firestore_documents,
    first_token,
    history_length,
    import_main,
    ledger_append,
    streaming,
    verify,
)
from bench.environment import Bench
from bench.rows import Row

RESULTS = Path(__file__).parent / "results"
# What needs no stack, or its own, comes first: a stack that idles beside it takes time from a machine of two cores.
BENCHMARKS: dict[str, Callable[[Bench], list[Row]]] = {
    module.NAME: module.measure
    for module in (
        import_main,
        boot,
        ledger_append,
        verify,
        history_length,
        checkpoint,
        classifier,
        first_token,
        cancel,
        streaming,
        firestore_documents,
    )
}
_SECONDS_MAX = 420


class _TimeIsUp(BaseException):
    """The whole run took too long, or was told to end; no `except Exception` of a library may keep it going."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", action="append", choices=sorted(BENCHMARKS), metavar="NAME", help="one benchmark")
    arguments = parser.parse_args()
    signal.signal(signal.SIGALRM, _time_is_up)
    signal.signal(signal.SIGTERM, _time_is_up)
    signal.alarm(_SECONDS_MAX)
    started = time.monotonic()
    rows: list[Row] = []
    failures: dict[str, str] = {}
    with Bench(quick=arguments.quick) as bench:
        for name in arguments.only or BENCHMARKS:
            print(f"{time.monotonic() - started:6.1f} s  {name}", file=sys.stderr, flush=True)
            try:
                rows += BENCHMARKS[name](bench)
            except _TimeIsUp:
                failures[name] = "the time was up"
                break
            except Exception as error:  # noqa: BLE001  one benchmark that fails must not take the others along
                failures[name] = f"{type(error).__name__}: {error}"
                traceback.print_exc()
        signal.alarm(0)
        if failures:
            print(bench.logs(), file=sys.stderr)
    seconds = time.monotonic() - started
    print(table.render(rows))
    for name, reason in failures.items():
        print(f"NOT MEASURED: {name}: {reason}")
    _write(rows, failures, seconds, name="partial" if arguments.only or failures else "latest", quick=arguments.quick)
    return 1 if failures else 0


def _time_is_up(number: int, frame: FrameType | None) -> None:
    raise _TimeIsUp


def _write(rows: list[Row], failures: dict[str, str], seconds: float, *, name: str, quick: bool) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    machine: dict[str, Any] = {
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "loadAverage": os.getloadavg(),
    }
    result = {
        "at": at,
        "quick": quick,
        "seconds": round(seconds, 1),
        "machine": machine,
        "rows": [row.as_json() for row in rows],
        "notMeasured": failures,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    caption = f"{at}, {machine['cores']} cores, Python {machine['python']}" + (", quick" if quick else "")
    (RESULTS / f"{name}.svg").write_text(chart.render(rows, caption), encoding="utf-8")
    print(f"\n{seconds:.0f} s; {RESULTS / name}.json, .svg")


if __name__ == "__main__":
    sys.exit(main())
