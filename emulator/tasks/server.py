"""Cloud Tasks over HTTP (official port 9499) and the dispatching of its tasks to functions.

The REST is what firebase_admin.functions.task_queue sends when CLOUD_TASKS_EMULATOR_HOST is set, whose answers differ
from production: `{"task": {"name": "/projects/..."}}`. Listing, running, pausing and purging follow
https://cloud.google.com/tasks/docs/reference/rest, also under `/v2`.
"""

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from emulator.clock import Clock
from emulator.functions import Courier, Functions, FunctionSpec, Message
from emulator.persistence import Store
from emulator.tasks import queues
from emulator.tasks.queues import Queues, Task
from emulator.web import RunningServer, serve

_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
_BODY_BYTES_MAX = 1024 * 1024
# Headers that Cloud Tasks sets itself, whatever the task says.
_OWN_HEADERS = re.compile(
    r"host|content-length|user-agent|connection|transfer-encoding|x-(google|appengine|cloudtasks)-.*"
)


class Refused(Exception):
    """A request that is answered with an error of google.rpc.Code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class TasksServer:
    """The queues of one project and region: one for each task queue function."""

    def __init__(
        self, *, host: Functions, deliveries: Courier, clock: Clock, store: Store, project: str, region: str
    ) -> None:
        self.queues = Queues(store)
        self._host = host
        self._deliveries = deliveries
        self._clock = clock
        self._parent = f"projects/{project}/locations/{region}"
        self._project = project
        self._region = region
        self._changed = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._attempts: set[asyncio.Task[None]] = set()
        self._server: RunningServer | None = None
        host.on_ready(self._configure)

    async def start(self, host: str = "127.0.0.1", port: int = 9499) -> RunningServer:
        app = web.Application(middlewares=[_errors], client_max_size=4 * _BODY_BYTES_MAX)
        for prefix in ("", "/v2"):
            queue = prefix + "/projects/{project}/locations/{location}/queues/{queue}"
            app.add_routes(
                [
                    web.post(queue + "/tasks", self._create),
                    web.get(queue + "/tasks", self._list),
                    web.get(queue + "/tasks/{task}", self._get),
                    web.delete(queue + "/tasks/{task}", self._delete),
                    web.post(queue + ":{action:pause|resume|purge}", self._control),
                ]
            )
        self._server = await serve(app, host, port)
        self._pump = asyncio.create_task(self._dispatch_forever())
        return self._server

    async def stop(self) -> None:
        """Stops serving and dispatching. What runs is given up, and is due again when the store is loaded next."""
        if self._server is not None:
            await self._server.stop()
            self._server = None
        running = [*self._attempts, *([self._pump] if self._pump is not None else [])]
        self._pump = None
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def busy(self) -> bool:
        """True while a task runs or is due."""
        return self.queues.busy(self._clock.now_ms())

    def _configure(self, functions: Mapping[str, FunctionSpec]) -> None:
        self.queues.configure(
            {spec.name: queues.queue_config(spec.trigger) for spec in functions.values() if spec.kind == "task"}
        )
        self._changed.set()

    async def _dispatch_forever(self) -> None:
        while True:
            self._changed.clear()
            for task in self.queues.take(self._clock.now_ms()):
                attempt = asyncio.create_task(self._attempt(task))
                self._attempts.add(attempt)
                attempt.add_done_callback(self._attempts.discard)
            wake_at_ms = self.queues.wake_at(self._clock.now_ms())
            waits: set[asyncio.Task[Any]] = {asyncio.create_task(self._changed.wait())}
            if wake_at_ms is not None:
                waits.add(asyncio.create_task(self._clock.wait_until(wake_at_ms)))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def _attempt(self, task: Task) -> None:
        # Whichever ends first: the task's patience or the function's own time limit.
        spec = self._host.functions[task.queue]
        outcome = await self._deliveries.deliver(
            Message(
                function=task.queue,
                origin="task",
                event_id=task.name,
                headers=_dispatch_headers(task),
                body=task.body,
                attempt=task.dispatches,
                timeout_seconds=min(task.deadline_seconds, spec.timeout_seconds),
            )
        )
        over = self.queues.finish(task, ok=outcome.ok, status=outcome.status, now_ms=self._clock.now_ms())
        if over and not outcome.ok:
            self._host.log(f"{task.queue}: task {task.name} is given up after {task.dispatches} attempts")
        self._changed.set()

    async def _create(self, request: web.Request) -> web.Response:
        queue = self._queue(request)
        try:
            task_json: Any = (await request.json())["task"]
            target = task_json["httpRequest"]
            body = base64.b64decode(target.get("body", ""), validate=True)
            headers = {str(name): str(value) for name, value in target.get("headers", {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise Refused(400, "INVALID_ARGUMENT", f"the request holds no HTTP task: {error!r}") from error
        if len(body) > _BODY_BYTES_MAX:
            raise Refused(400, "INVALID_ARGUMENT", "a task is at most 1 MiB")
        self._check_url(queue, target.get("url") or "")
        now_ms = self._clock.now_ms()
        due_at_ms = _timestamp_ms(task_json.get("scheduleTime"))
        if due_at_ms is not None and due_at_ms > now_ms + queues.SCHEDULE_AHEAD_MS_MAX:
            raise Refused(400, "INVALID_ARGUMENT", "a task is scheduled at most 30 days ahead")
        task = self.queues.create(
            queue,
            now_ms=now_ms,
            name=self._task_id(queue, task_json.get("name")),
            headers=headers,
            body=body,
            due_at_ms=due_at_ms,
            deadline_seconds=_deadline_seconds(task_json.get("dispatchDeadline")),
        )
        self._changed.set()
        # The Admin SDK drops the first character of the name.
        return web.json_response({"task": {**self._json(task), "name": "/" + self._name(task)}})

    async def _list(self, request: web.Request) -> web.Response:
        tasks = self.queues.tasks(self._queue(request))
        return web.json_response({"tasks": [self._json(task) for task in tasks]})

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._json(self.queues.get(self._queue(request), request.match_info["task"])))

    async def _delete(self, request: web.Request) -> web.Response:
        self.queues.delete(self._queue(request), request.match_info["task"], self._clock.now_ms())
        self._changed.set()
        return web.json_response({})

    async def _control(self, request: web.Request) -> web.Response:
        queue, action = self._queue(request), request.match_info["action"]
        if action == "purge":
            self.queues.purge(queue, self._clock.now_ms())
        else:
            self.queues.set_paused(queue, action == "pause")
        self._changed.set()
        return web.json_response({"name": f"{self._parent}/queues/{queue}"})

    def _queue(self, request: web.Request) -> str:
        at = request.match_info
        if f"projects/{at['project']}/locations/{at['location']}" != self._parent:
            raise Refused(404, "NOT_FOUND", f"only {self._parent} has queues")
        return at["queue"]

    def _task_id(self, queue: str, name: str | None) -> str | None:
        if name is None:
            return None
        prefix = f"{self._parent}/queues/{queue}/tasks/"
        task_id = name.removeprefix(prefix)
        if not name.startswith(prefix) or _TASK_ID.fullmatch(task_id) is None:
            raise Refused(400, "INVALID_ARGUMENT", f"not a task of this queue: {name}")
        return task_id

    def _check_url(self, queue: str, url: str) -> None:
        """A task goes to its queue's own function: nothing here calls the outside world."""
        parts = urlsplit(url)
        deployed = f"{self._region}-{self._project}.cloudfunctions.net"
        own_paths = (f"/{queue}", f"/{self._project}/{self._region}/{queue}")
        if url and not (parts.path in own_paths and parts.hostname in (deployed, "127.0.0.1", "localhost")):
            raise Refused(400, "INVALID_ARGUMENT", f"the embedded Firebase calls {queue} only, not {url}")

    def _name(self, task: Task) -> str:
        return f"{self._parent}/queues/{task.queue}/tasks/{task.name}"

    def _json(self, task: Task) -> dict[str, Any]:
        return {
            "name": self._name(task),
            "scheduleTime": _rfc3339(task.due_at_ms),
            "createTime": _rfc3339(task.created_at_ms),
            "dispatchDeadline": f"{task.deadline_seconds:g}s",
            "dispatchCount": task.dispatches,
            "responseCount": task.responses,
            "httpRequest": {"headers": dict(task.headers), "body": base64.b64encode(task.body).decode()},
        }


def _dispatch_headers(task: Task) -> dict[str, str]:
    """Source: https://cloud.google.com/tasks/docs/creating-http-target-tasks#handler"""
    headers = {name: value for name, value in task.headers.items() if not _OWN_HEADERS.fullmatch(name.lower())}
    headers |= {
        "User-Agent": "Google-Cloud-Tasks",
        "X-CloudTasks-QueueName": task.queue,
        "X-CloudTasks-TaskName": task.name,
        "X-CloudTasks-TaskRetryCount": str(task.dispatches - 1),
        "X-CloudTasks-TaskExecutionCount": str(task.responses),
        "X-CloudTasks-TaskETA": f"{task.due_at_ms / 1000:.6f}",
    }
    if task.last_status is not None:
        headers["X-CloudTasks-TaskPreviousResponse"] = str(task.last_status)
    return headers


def _timestamp_ms(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError) as error:
        raise Refused(400, "INVALID_ARGUMENT", f"not a time: {text!r}") from error
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


def _deadline_seconds(text: str | None) -> float:
    if text is None:
        return queues.DISPATCH_DEADLINE_SECONDS_DEFAULT
    match = re.fullmatch(r"(\d+(?:\.\d+)?)s", text)
    if match is None or not 15 <= float(match[1]) <= 1800:
        raise Refused(400, "INVALID_ARGUMENT", "dispatchDeadline must be between 15s and 1800s")
    return float(match[1])


def _rfc3339(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@web.middleware
async def _errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """Errors in the shape of Google's APIs, from which the Admin SDK makes its exceptions."""
    try:
        response: web.StreamResponse = await handler(request)
        return response
    except Refused as error:
        refused = error
    except queues.UnknownQueue as error:
        refused = Refused(404, "NOT_FOUND", f"there is no task queue function {error}")
    except queues.TaskNotFound as error:
        refused = Refused(404, "NOT_FOUND", f"there is no task {error}")
    except queues.TaskExists as error:
        refused = Refused(409, "ALREADY_EXISTS", f"the task name {error} is taken")
    body = {"error": {"code": refused.status, "message": refused.message, "status": refused.code}}
    return web.Response(status=refused.status, text=json.dumps(body), content_type="application/json")
