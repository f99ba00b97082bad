"""How soon the embedded Firebase is ready, and its memory.

Measured: from the start of `python -m emulator` until its services listen, and until the functions are loaded too;
the resident memory of that one process when ready, and in the notes after some requests. Floor: a bare interpreter that
imports aiohttp.web and grpc, in turns with it. Budget: under 1.5 s and under 120 MB.
"""

import subprocess
import sys
import time
from uuid import uuid4

from bench import provider
from bench.environment import Bench, RunningStack, resident_bytes, traced
from bench.rows import Budget, Row
from bench.series import Pairs, Series, interleaved
from bench.trace import read_marks
from cli.stack import ROOT, Stack

NAME = "boot"
_BARE = "import aiohttp.web, grpc, sys; print(flush=True); sys.stdin.read()"
_MEGABYTE = 1e6
_SECONDS_MAX = 1.5
_MEGABYTES_MAX = 120
_REQUESTS = 20


class _Boots:
    """Collects what each boot shows beside the time that the pairs hold."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.ready_ms: list[float] = []
        self.megabytes: list[float] = []
        self.bare_megabytes: list[float] = []

    def embedded(self) -> float:
        """Milliseconds until the services listen."""
        marks = self._bench.file(f"boot-{uuid4().hex}.marks")
        start_ns = time.monotonic_ns()
        environment = {**self._bench.settings(), **traced(marks)}
        with Stack.start(environment=environment, log=subprocess.DEVNULL) as stack:
            self.ready_ms.append((time.monotonic_ns() - start_ns) / 1e6)
            self.megabytes.append(resident_bytes(stack.process.pid) / _MEGABYTE)
            # The services are bound before the functions are loaded.
            listening_ns = next(mark.at_ns for mark in read_marks(marks) if mark.name == "functions.start.begin")
        return (listening_ns - start_ns) / 1e6

    def bare(self) -> float:
        """Milliseconds until a bare interpreter has the same libraries."""
        start_ns = time.monotonic_ns()
        with subprocess.Popen(
            [sys.executable, "-c", _BARE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdout.readline()
            milliseconds = (time.monotonic_ns() - start_ns) / 1e6
            self.bare_megabytes.append(resident_bytes(process.pid) / _MEGABYTE)
            process.stdin.close()
        return milliseconds


def measure(bench: Bench) -> list[Row]:
    assert bench.provider_url, "the provider is started before the clock is"
    boots = _Boots(bench)
    pairs = interleaved(boots.embedded, boots.bare, rounds=bench.rounds(6, 2), seconds_max=bench.seconds_max, warm_up=0)
    ready = Pairs(Series.of([each / 1000 for each in boots.ready_ms]), _seconds(pairs.floor))
    listening = Pairs(_seconds(pairs.measured), _seconds(pairs.floor))
    emulator, functions = _after_requests(bench)
    floor_title = "interpreter with aiohttp.web and grpc"
    return [
        *(
            Row(
                name=f"{NAME}_{name}",
                title=title,
                unit="s",
                measured=each.measured,
                floor=each.floor,
                floor_title=floor_title,
                figure=each.measured.median,
                figure_unit="s",
                budget=Budget(_SECONDS_MAX, "at most"),
                details={"ratios": each.ratios.as_json()},
            )
            for name, title, each in (
                ("listening", "embedded Firebase, services listen", listening),
                ("ready", "embedded Firebase, functions are loaded too", ready),
            )
        ),
        Row(
            name=f"{NAME}_memory",
            title="embedded Firebase, resident memory",
            unit="MB",
            measured=Series.of(boots.megabytes),
            floor=Series.of(boots.bare_megabytes),
            floor_title=floor_title,
            figure=Series.of(boots.megabytes).median,
            figure_unit="MB",
            budget=Budget(_MEGABYTES_MAX, "at most"),
            notes=(
                f"  {emulator:.0f} MB after {_REQUESTS} requests",
                f"  {functions:.0f} MB then in the functions, which are a process of their own",
            ),
            details={"megabytesAfterRequests": emulator, "functionsMegabytesAfterRequests": functions},
        ),
    ]


def _after_requests(bench: Bench) -> tuple[float, float]:
    """Megabytes of the embedded Firebase and of the functions' process, once some requests were answered."""
    with Stack.start(environment=bench.settings(), log=subprocess.DEVNULL) as stack:
        running = RunningStack(stack, None)
        for _ in range(_REQUESTS):
            running.answer(running.person, provider.message(100, 0))
        functions = resident_bytes(running.functions_process())
        running.close()
        return resident_bytes(stack.process.pid) / _MEGABYTE, functions / _MEGABYTE


def _seconds(milliseconds: Series) -> Series:
    return Series(tuple(each / 1000 for each in milliseconds.values))
