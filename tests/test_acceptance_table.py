"""The acceptance table can be made: its tests are found without the plug-ins that only the suite runs with."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"acceptance\(\"([A-Z]+\d\d)\"\)")


def test_the_tests_of_the_table_are_found() -> None:
    collected = subprocess.run(
        [sys.executable, "tools/acceptance.py", "--collect-only"], cwd=ROOT, capture_output=True, text=True
    )
    assert collected.returncode == 0, collected.stdout[-2000:]
    marked = {row for file in (ROOT / "tests").rglob("test_*.py") for row in ROW.findall(file.read_text())}
    listed = set(re.findall(r"^([A-Z]+\d\d)  ", collected.stdout, re.MULTILINE))
    assert marked
    assert marked <= listed, "every mark names a row of docs/acceptance.md"
