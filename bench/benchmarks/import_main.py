"""What a cold start pays for our main.py.

Measured: `import main` in a fresh interpreter. Floor: the import of firebase_functions' own triggers, the very modules
that main.py imports. In processor time of their interpreters, which other work on the machine disturbs least, in turns.
Budget: at most 1.1 times the floor.
"""

import subprocess
import sys
from functools import partial

from bench.environment import Bench
from bench.rows import Budget, Row
from bench.series import interleaved
from cli.stack import ROOT

NAME = "import_main"
_MAIN = "import main"
_TRIGGERS = "from firebase_functions import db_fn, firestore_fn, https_fn, options, params, scheduler_fn"


def measure(bench: Bench) -> list[Row]:
    pairs = interleaved(
        partial(_import_ms, _MAIN),
        partial(_import_ms, _TRIGGERS),
        rounds=bench.rounds(16, 4),
        seconds_max=bench.seconds_max,
    )
    return [
        Row(
            name=NAME,
            title="import main, processor time",
            unit="ms",
            measured=pairs.measured,
            floor=pairs.floor,
            floor_title="import of the triggers themselves",
            figure=pairs.ratios.median,
            figure_unit="x",
            budget=Budget(1.1, "at most"),
            details={"ratios": pairs.ratios.as_json()},
        )
    ]


def _import_ms(statement: str) -> float:
    program = f"import time; s = time.process_time()\n{statement}\nprint((time.process_time() - s) * 1000)"
    command = [sys.executable, "-c", program]
    return float(subprocess.run(command, cwd=ROOT / "functions", check=True, capture_output=True, text=True).stdout)
