"""What the benchmarks run against: processes that are started when one is first asked for, and all ended at the end.

Every process started here ends with its standard input, so none survives this one, however it dies.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

from bench import provider
from bench.trace import Mark, read_marks
from cli.client import Client, ClientError, Listener, numbered
from cli.stack import ROOT, Stack

MODEL = "concierge-offline-small"
_STARTUP = Path(__file__).parent / "startup"
_PATIENCE_SECONDS = 30
_TERMINAL = ("done", "failed", "cancelled")


@contextmanager
def service(module: str, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """A process of this package that prints its port; the port."""
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for a while: the SDKs read their addresses when a client is made."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def resident_bytes(process: int) -> int:
    """The resident memory of a process."""
    statistics = Path(f"/proc/{process}/statm")
    if statistics.exists():
        return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    listed = subprocess.run(["ps", "-o", "rss=", "-p", str(process)], check=True, capture_output=True, text=True)
    return int(listed.stdout) * 1024


def traced(marks: Path) -> dict[str, str]:
    """The environment that has a process and its children leave marks."""
    search = os.pathsep.join(filter(None, [str(_STARTUP), os.environ.get("PYTHONPATH", "")]))
    return {"CONCIERGE_BENCH_MARKS": str(marks), "PYTHONPATH": search}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in and has credits."""

    client: Client

    @property
    def uid(self) -> str:
        assert self.client.session is not None
        return self.client.session.uid

    def listen(self, request_id: str) -> Listener:
        """Follows the response to a request; its first value is what is there now."""
        listener = self.client.listen(f"responses/{self.uid}/{request_id}")
        listener.next(_PATIENCE_SECONDS)
        return listener

    def ask(self, request_id: str, text: str) -> None:
        self.client.put(
            f"requests/{self.uid}/{request_id}",
            {"kind": "chat", "conversationId": "bench", "text": text, "createdAt": {".sv": "timestamp"}},
        )

    def cancel(self, request_id: str) -> None:
        self.client.put(f"cancellations/{self.uid}/{request_id}", True)


def first_chunk(listener: Listener) -> dict[str, Any]:
    """Waits for a response that has text. Raises ClientError if it ends without any."""
    for response in listener.values(_PATIENCE_SECONDS):
        if response is not None and numbered(response.get("chunks")):
            return dict(response)
        if response is not None and response.get("status") in _TERMINAL:
            raise ClientError(f"the request ended as {response['status']}: {response.get('error')}")
    raise ClientError("the response never came")


def ended(listener: Listener, *statuses: str) -> dict[str, Any]:
    """Waits for the end of a response. Raises ClientError unless its status is one of these (by default `done`)."""
    for response in listener.values(_PATIENCE_SECONDS):
        if response is not None and response.get("status") in _TERMINAL:
            if response["status"] not in (statuses or ("done",)):
                raise ClientError(f"the request ended as {response['status']}: {response.get('error')}")
            return dict(response)
    raise ClientError("the response never came")


class RunningStack:
    """One stack with a person in it. `marks` is the file of a traced stack."""

    def __init__(self, stack: Stack, marks: Path | None) -> None:
        self.stack = stack
        self._marks = marks
        self._hub = httpx.Client(base_url=f"http://{stack.services['hub']}", timeout=60, trust_env=False)
        self._clients: list[Client] = []

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._hub.close()

    def idle(self) -> None:
        """Waits until no function runs."""
        self._hub.get("/idle", params={"timeout": _PATIENCE_SECONDS}).raise_for_status()

    def functions_process(self) -> int:
        return int(self._hub.get("/functions").raise_for_status().json()["pid"])

    def marks(self) -> list[Mark]:
        """What the processes have marked so far."""
        assert self._marks is not None, "this stack is not traced"
        return read_marks(self._marks)

    def newcomer(self) -> Person:
        """Signed up, and nothing else."""
        client = Client(self.stack.addresses)
        self._clients.append(client)
        client.sign_up(f"{uuid4().hex}@example.com", uuid4().hex)
        return Person(client)

    @cached_property
    def person(self) -> Person:
        """Somebody with credits, for whom every part of the journey has run before."""
        person = self.newcomer()
        with person.client.listen(f"balances/{person.uid}") as balances:
            device = {"platform": "cli", "createdAt": {".sv": "timestamp"}}
            person.client.put(f"devices/{person.uid}/{uuid4().hex}", device)
            while balances.next(_PATIENCE_SECONDS) is None:
                continue
        for _ in range(3):
            self.answer(person, provider.message(10, 0))
        return person

    def answer(self, person: Person, text: str) -> dict[str, Any]:
        """Asks, and waits until the answer is complete and the functions are idle."""
        request_id = uuid4().hex
        with person.listen(request_id) as listener:
            person.ask(request_id, text)
            response = ended(listener)
        self.idle()
        return response


class Bench:
    """What a benchmark is given. `quick` asks for few rounds; `seconds_max` bounds one benchmark's sampling."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self.seconds_max = 6.0 if quick else 18.0
        self._open = ExitStack()
        self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="concierge-bench-")))

    def rounds(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def file(self, name: str) -> Path:
        """A path in a folder that is removed at the end."""
        return self._folder / name

    @cached_property
    def provider_url(self) -> str:
        port = self._open.enter_context(service("bench.provider", {"CONCIERGE_BENCH_MARKS": str(self.file("marks"))}))
        return f"http://127.0.0.1:{port}/v1"

    @cached_property
    def plain(self) -> RunningStack:
        """The stack as it is, for times."""
        return self._start({}, None)

    @cached_property
    def observed(self) -> RunningStack:
        """A stack that leaves marks, for counts and for where the time goes."""
        return self._start(traced(self.file("marks")), self.file("marks"))

    def settings(self) -> dict[str, str]:
        """The functions' settings: our provider, and the defaults."""
        return {
            "AI_PLATFORM_BASE_URL": self.provider_url,
            "AI_PLATFORM_API_KEY": "bench",
            "AI_PLATFORM_CHAT_MODEL": MODEL,
        }

    def _start(self, environment: Mapping[str, str], marks: Path | None) -> RunningStack:
        log = self._open.enter_context(self.file(f"stack-{uuid4().hex}.log").open("w"))
        stack = self._open.enter_context(Stack.start(environment={**self.settings(), **environment}, log=log))
        running = RunningStack(stack, marks)
        self._open.callback(running.close)
        return running

    def logs(self) -> str:
        """The last lines that the stacks wrote, for whoever looks for the reason of a failure."""
        return "\n".join(path.read_text()[-3000:] for path in sorted(self._folder.glob("*.log")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()
