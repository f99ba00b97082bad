"""`python -m emulator`: the embedded Firebase in a process of its own.

With `--json` it prints one line when everything answers, and ends when its standard input is closed; so a parent that
dies takes it along. Otherwise it prints a table for people and ends on SIGINT or SIGTERM.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from emulator.rtdb.rules.errors import RulesError
from emulator.suite import OFFICIAL_PORTS, Suite, SuiteOptions
from emulator.triggers.host import FunctionsError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m emulator", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="the functions' folder")
    parser.add_argument("--project", default="demo-concierge")
    parser.add_argument("--data", type=Path, help="keep the state there across restarts")
    parser.add_argument("--official-ports", action="store_true", help="the ports of firebase.json, not free ones")
    parser.add_argument("--schedules", action="store_true", help="run scheduled functions by the clock")
    parser.add_argument("--json", action="store_true", help="for programs: one line when ready; ends with its input")
    arguments = parser.parse_args()
    options = SuiteOptions(
        source=arguments.source,
        project=arguments.project,
        ports=OFFICIAL_PORTS if arguments.official_ports else {},
        data=arguments.data,
        schedules=arguments.schedules,
    )
    return asyncio.run(_run(options, as_json=arguments.json))


async def _run(options: SuiteOptions, *, as_json: bool) -> int:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if as_json:
        # Interrupts of a terminal reach the whole group; the parent decides when this process ends.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        # Input that cannot be watched, as /dev/null, is no sign of a parent: then only a signal ends the process.
        with suppress(PermissionError):
            loop.add_reader(sys.stdin.fileno(), lambda: ended.set() if not os.read(sys.stdin.fileno(), 4096) else None)
    try:
        suite = Suite(options)
        try:
            await suite.start()
            _say(_ready(suite), as_json=as_json)
            await ended.wait()
        finally:
            await suite.stop()
    except (OSError, RulesError, FunctionsError) as error:
        _say({"error": f"{type(error).__name__}: {error}"}, as_json=as_json)
        return 1
    return 0


def _ready(suite: Suite) -> dict[str, Any]:
    return {
        "project": suite.options.project,
        "region": suite.options.region,
        "namespace": suite.namespace,
        "services": suite.services,
        "environment": suite.sdk_environment(),
        "model_description": suite.model_description,
    }


def _say(message: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        text = json.dumps(message)
    elif "error" in message:
        text = f"The embedded Firebase did not start. {message['error']}"
    else:
        rows = "\n".join(f"  {name:<10} http://{address}" for name, address in sorted(message["services"].items()))
        variables = "\n".join(f"  {name}={value}" for name, value in message["environment"].items())
        text = f"The embedded Firebase is up (project {message['project']}).\n{rows}\n\nFor SDKs:\n{variables}\n"
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
