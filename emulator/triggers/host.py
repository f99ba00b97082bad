"""The functions process as the emulator sees it: started, called, killed and started again.

    stopped -> starting -> ready -> down (killed or crashed) -> starting -> ...
                        -> failed (main.py did not load)

A call that arrives while the process starts, or is down, waits for it, as the platform waits for a new instance. A call
that is in flight when the process dies ends in FunctionLost: whether the function had run to its end nobody knows.
"""

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
from yarl import URL

from emulator.functions import TIMEOUT_SECONDS_DEFAULT, FunctionSpec
from emulator.triggers import manifest

State = Literal["stopped", "starting", "ready", "down", "failed"]
LogSink = Callable[[str], None]

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_TAIL_LINES = 40
_STOP_SECONDS = 3.0
# From a broken connection to the notice that the process ended, if that is why it broke.
_EXIT_SECONDS = 0.25


class FunctionsError(Exception):
    """Why a function could not be called."""


class FunctionsLoadError(FunctionsError):
    """The functions process ended or stayed silent before it was ready; the message ends with what it printed."""


class FunctionsUnavailable(FunctionsError):
    """There is no functions process and none is coming."""


class FunctionLost(FunctionsError):
    """The process died, or the connection to it broke, during the call."""


class FunctionTimeout(FunctionsError):
    """No complete answer within the function's time limit; the function may still be running."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A function's complete HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class _Worker:
    """One life of the functions process."""

    process: asyncio.subprocess.Process
    output: "asyncio.Task[None]"
    tail: deque[str]
    session: aiohttp.ClientSession | None = None
    port: int = 0
    ended_by_us: bool = False


def print_log(line: str) -> None:
    """The default log sink."""
    print(f"[functions] {line}", file=sys.stderr)  # noqa: T201


def worker_environment(
    *,
    project: str,
    database_url: str,
    storage_bucket: str,
    hosts: Mapping[str, str],
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The environment the platform and the official emulators give to functions.

    `hosts` maps emulator variables to addresses: {"FIRESTORE_EMULATOR_HOST": "127.0.0.1:8080", ...}.
    """
    config = {"projectId": project, "databaseURL": database_url, "storageBucket": storage_bucket}
    return {
        "GCLOUD_PROJECT": project,
        "GOOGLE_CLOUD_PROJECT": project,
        "FIREBASE_CONFIG": json.dumps(config),
        "FUNCTIONS_EMULATOR": "true",
        **hosts,
        **(extra or {}),
    }


async def _send_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keeps the client from repeating a request whose connection broke: the function may have run."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise FunctionLost(f"the connection broke: {error}") from error


class FunctionsHost:
    """Owns at most one functions process at a time. All methods run on the emulator's event loop."""

    def __init__(
        self,
        *,
        source: Path,
        project: str,
        region: str = "us-central1",
        environment: Mapping[str, str],
        inherit_environment: bool = True,
        restart_on_crash: bool = True,
        ready_timeout_seconds: float = 60.0,
        log: LogSink = print_log,
    ) -> None:
        self.project = project
        self.region = region
        self.functions: Mapping[str, FunctionSpec] = {}
        self.state: State = "stopped"
        self.failure: FunctionsLoadError | None = None
        self.restarts = 0
        self.log = log
        self._source = source
        self._inherited = dict(os.environ) if inherit_environment else {}
        self._environment = environment
        self._restart_on_crash = restart_on_crash
        self._ready_timeout_seconds = ready_timeout_seconds
        self._worker: _Worker | None = None
        self._stopping = False
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._watchers: set[asyncio.Task[None]] = set()
        self._ready_listeners: list[Callable[[Mapping[str, FunctionSpec]], None]] = []

    @property
    def pid(self) -> int | None:
        return self._worker.process.pid if self._worker is not None else None

    def on_ready(self, listener: Callable[[Mapping[str, FunctionSpec]], None]) -> None:
        """Calls the listener with the discovered functions each time a process is ready, and now if one is."""
        self._ready_listeners.append(listener)
        if self.state == "ready":
            listener(self.functions)

    async def start(self) -> None:
        """Starts the process and waits until it serves. Raises FunctionsLoadError."""
        async with self._lock:
            await self._launch({})

    async def kill(self) -> None:
        """Ends the process as `kill -9` does. It stays down until restart()."""
        async with self._lock:
            if self._worker is not None:
                await self._end(self._worker, "down")

    async def restart(self, extra_environment: Mapping[str, str] | None = None) -> None:
        """Kills the process and starts another one. Raises FunctionsLoadError.

        The extra variables are set for that one process: an instance that the platform starts after a crash has the
        deployed environment again, so a fault that was armed for one process strikes once.
        """
        async with self._lock:
            if self._worker is not None:
                await self._end(self._worker, "down")
            self.restarts += 1
            await self._launch(extra_environment or {})

    async def stop(self) -> None:
        """Ends the process for good, also one that is still loading."""
        self._stopping = True
        if self._worker is not None:
            with suppress(ProcessLookupError):
                self._worker.process.kill()
        async with self._lock:
            if self._worker is not None:
                await self._end(self._worker, "stopped")
            self._become("stopped")
            self._stopping = False
        for watcher in list(self._watchers):
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    async def call(
        self,
        function: str,
        *,
        method: str = "POST",
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Calls a function and reads the whole answer. Raises FunctionsError."""
        async with self.open(
            function, method=method, path=path, headers=headers, body=body, timeout_seconds=timeout_seconds
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    @asynccontextmanager
    async def open(
        self,
        function: str,
        *,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | aiohttp.StreamReader | None = None,
        timeout_seconds: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Calls a function and gives its answer as it comes. `path` is raw: encoded, with its query.

        Raises FunctionsError, also out of the block, where reading the answer fails.
        """
        if timeout_seconds is None:
            spec = self.functions.get(function)
            timeout_seconds = spec.timeout_seconds if spec else TIMEOUT_SECONDS_DEFAULT
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=timeout_seconds)
        while True:
            worker = await self._ready_worker()
            assert worker.session is not None
            url = URL(f"http://127.0.0.1:{worker.port}/{function}{path}", encoded=True)
            try:
                async with worker.session.request(
                    method, url, headers=headers, data=body, timeout=timeout, allow_redirects=False
                ) as response:
                    yield response
                    return
            except TimeoutError as error:
                raise FunctionTimeout(f"{function} did not end within {timeout_seconds:g} s") from error
            except aiohttp.ClientConnectorError:
                # The process is gone and nothing was sent: the call goes to the next one, once its end was noticed.
                await self._gone(worker)
            except (aiohttp.ClientError, FunctionLost) as error:
                # Whoever hears of the loss may try again at once, and must not meet the dying process once more.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._gone(worker), _EXIT_SECONDS)
                raise FunctionLost(f"{function} was lost: {error}") from error

    async def _gone(self, worker: _Worker) -> None:
        """Waits until the process is known to have ended."""
        while self._worker is worker:
            await self._changed.wait()

    async def _ready_worker(self) -> _Worker:
        while True:
            if self.state == "ready" and self._worker is not None:
                return self._worker
            if self.state in ("stopped", "failed"):
                raise FunctionsUnavailable(str(self.failure or "the functions are stopped"))
            await self._changed.wait()

    def _become(self, state: State) -> None:
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()

    async def _launch(self, extra_environment: Mapping[str, str]) -> None:
        assert self._worker is None, "the functions are running already"
        self.failure = None
        self._become("starting")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "emulator.triggers.worker"),
            *("--source", str(self._source.resolve())),
            *("--project", self.project),
            *("--region", self.region),
            cwd=_CHECKOUT,
            env={**self._inherited, **self._environment, **extra_environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # One manifest line holds all functions.
            limit=16 * 1024 * 1024,
            # Ctrl-C in a terminal goes to the whole group; the parent decides when the functions end.
            start_new_session=True,
        )
        tail: deque[str] = deque(maxlen=_TAIL_LINES)
        assert process.stderr is not None
        worker = _Worker(process, asyncio.create_task(self._read_output(process.stderr, tail)), tail)
        self._worker = worker
        try:
            report = await self._report(worker)
            functions = [manifest.parse(endpoint) for endpoint in report["functions"]]
        except BaseException as error:
            if isinstance(error, FunctionsLoadError):
                self.failure = error
            await self._end(worker, "failed")
            raise
        worker.port = report["port"]
        worker.session = aiohttp.ClientSession(
            # The process never closes an idle connection, so a reused one is never a stale one.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=120),
            auto_decompress=False,
            middlewares=(_send_once,),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self.functions = {spec.name: spec for spec in functions}
        watcher = asyncio.create_task(self._watch(worker))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        self._become("ready")
        for listener in self._ready_listeners:
            listener(self.functions)

    async def _report(self, worker: _Worker) -> dict[str, Any]:
        """What the process says when it serves. Raises FunctionsLoadError."""
        assert worker.process.stdout is not None
        try:
            line = await asyncio.wait_for(worker.process.stdout.readline(), self._ready_timeout_seconds)
        except TimeoutError:
            reason = f"were not ready within {self._ready_timeout_seconds:g} s"
        else:
            if line:
                report: dict[str, Any] = json.loads(line)
                return report
            await worker.process.wait()
            await worker.output
            reason = f"ended while loading, with status {worker.process.returncode}"
        raise FunctionsLoadError("\n".join([f"the functions of {self._source} {reason}:", *worker.tail]))

    async def _read_output(self, stream: asyncio.StreamReader, tail: deque[str]) -> None:
        """Hands each line of what the functions print to the log sink, however long it is."""
        rest = b""
        while chunk := await stream.read(64 * 1024):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._log_line(line, tail)
        if rest:
            self._log_line(rest, tail)

    def _log_line(self, line: bytes, tail: deque[str]) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        tail.append(text)
        self.log(text)

    async def _watch(self, worker: _Worker) -> None:
        """Notices that a process ended by itself and does what the platform does: starts another one."""
        status = await worker.process.wait()
        async with self._lock:
            if worker.ended_by_us or self._worker is not worker or self._stopping:
                return
            self.log(f"the functions process {worker.process.pid} ended with status {status}")
            await self._end(worker, "down" if self._restart_on_crash else "stopped")
            if not self._restart_on_crash:
                return
            self.restarts += 1
            try:
                await self._launch({})
            except FunctionsLoadError as error:
                self.log(str(error))

    async def _end(self, worker: _Worker, state: State) -> None:
        worker.ended_by_us = True
        # First of all, so that no call goes to a process that is as good as dead.
        self._worker = None
        self._become(state)
        with suppress(ProcessLookupError):
            worker.process.kill()
        await worker.process.wait()
        if worker.process.stdin is not None:
            worker.process.stdin.close()
        if worker.session is not None:
            await worker.session.close()
        # A process that the functions started may keep the pipe open for ever; what it prints is nobody's business.
        await asyncio.wait({worker.output}, timeout=_STOP_SECONDS)
        worker.output.cancel()
