"""The embedded Firebase as a child process: started, awaited, stopped."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from cli.client import Addresses

ROOT = Path(__file__).resolve().parent.parent
_STOP_SECONDS = 10


class StackError(Exception):
    """The stack did not come up; the message says why."""


@dataclass(slots=True)
class Stack:
    """A running stack. `services` are host:port by service name; `environment` is what SDKs need to find it."""

    process: "subprocess.Popen[str]"
    project: str
    region: str
    namespace: str
    services: dict[str, str]
    environment: dict[str, str]
    model_description: str

    @classmethod
    def start(
        cls,
        *,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        log: IO[str] | int | None = None,
    ) -> "Stack":
        """Boots on free ports unless `arguments` say otherwise, and returns when everything answers.

        `log` takes the stack's log (standard error of this process by default, quiet). Raises StackError.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "emulator", "--json", "--source", str(ROOT / "functions"), *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        ready: dict[str, Any] = {"error": "the embedded Firebase did not start; its log says why"}
        if line.startswith("{"):
            ready = json.loads(line)
        if "error" in ready:
            _end(process)
            raise StackError(ready["error"])
        return cls(process=process, **ready)

    @property
    def addresses(self) -> Addresses:
        """What a client needs."""
        functions = self.services["functions"]
        return Addresses(
            auth=f"http://{self.services['auth']}",
            database=f"http://{self.services['database']}",
            namespace=self.namespace,
            api=f"http://{functions}/{self.project}/{self.region}/api",
        )

    def stop(self) -> None:
        """Ends the stack and the functions in it; kills it if it does not end by itself."""
        _end(self.process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _end(process: "subprocess.Popen[str]") -> None:
    """Closes the process' input, which ends it; kills it if it does not."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
