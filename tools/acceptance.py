"""The acceptance table: every row of docs/acceptance.md with its tests and their result.

Runs the marked tests. The exit code is 1 if a test failed; rows without a test are listed as not yet done.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"\| ([A-Z]+\d\d) \| (.*?)(?: \[[^\]]*\])? \|$")


class Collector:
    """A pytest plugin: which rows each test belongs to, and how it ended."""

    def __init__(self) -> None:
        self.rows_of: dict[str, list[str]] = {}
        self.outcomes: dict[str, list[str]] = defaultdict(list)
        self.tests: dict[str, set[str]] = defaultdict(set)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.rows_of[item.nodeid] = [mark.args[0] for mark in item.iter_markers("acceptance")]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed:
            for row in self.rows_of.get(report.nodeid, []):
                self.outcomes[row].append(report.outcome)
                self.tests[row].add(report.nodeid.partition("[")[0].rpartition("::")[2])


def rows() -> dict[str, str]:
    """Id -> title, in the order of the document."""
    text = (ROOT / "docs" / "acceptance.md").read_text(encoding="utf-8")
    return {match[1]: match[2] for line in text.splitlines() if (match := ROW.match(line))}


def main() -> int:
    collector = Collector()
    code = pytest.main(["-q", "--no-header", "-m", "acceptance", "-p", "no:xdist", *sys.argv[1:]], plugins=[collector])
    print()
    done = 0
    for row, title in rows().items():
        outcomes = collector.outcomes.get(row, [])
        result = "not yet" if not outcomes else "failed" if "failed" in outcomes else f"passed ({len(outcomes)})"
        done += result.startswith("passed")
        print(f"{row}  {result:<12} {title[:90]}")
        for test in sorted(collector.tests.get(row, ())):
            print(f"                    {test}")
    unknown = set(collector.outcomes) - set(rows())
    print(f"\n{done} of {len(rows())} rows hold; unknown rows: {sorted(unknown) or 'none'}")
    return int(code) or bool(unknown)


if __name__ == "__main__":
    sys.exit(main())
