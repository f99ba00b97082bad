"""The hub (official port 4400): what runs where, and the switches that tests and developers turn.

    GET    /emulators                 the running services, in the official shape
    GET    /functions                 state, process id and discovered functions
    POST   /functions/kill            as `kill -9`; stays down until
    POST   /functions/restart         {"environment": {...}} for that one process
    POST   /schedules/{name}/run      runs a job once, answers with how it ended
    POST   /faults, DELETE /faults    adds one of faults.Fault; forgets all
    POST   /clock                     {"advanceSeconds": n}
    GET    /deliveries                the latest deliveries, ?function= for those of one
    GET    /idle                      answers once nothing is in flight; 408 after ?timeout= seconds (30)

It changes the state of everything, so it listens on loopback only and refuses requests that a web page could make.
"""

import asyncio
import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, get_args

from aiohttp import web
from yarl import URL

from emulator.clock import Clock
from emulator.faults import Action, Fault, FaultPlan
from emulator.triggers.deliveries import Deliveries
from emulator.triggers.host import FunctionsHost, FunctionsLoadError
from emulator.triggers.schedules import Schedules
from emulator.web import RunningServer, serve

_IDLE_POLL_SECONDS = 0.005


class Hub:
    """`services` maps a service's official name to its host:port. `busy` are further tests for GET /idle."""

    def __init__(
        self,
        *,
        services: Mapping[str, str],
        plan: FaultPlan,
        clock: Clock,
        host: FunctionsHost,
        deliveries: Deliveries,
        schedules: Schedules,
        busy: Sequence[Callable[[], bool]] = (),
    ) -> None:
        self._services = services
        self._plan = plan
        self._clock = clock
        self._host = host
        self._deliveries = deliveries
        self._schedules = schedules
        self._busy = (deliveries.busy, schedules.busy, *busy)
        self._server: RunningServer | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 4400) -> RunningServer:
        """Raises ValueError for an address that others can reach."""
        if not _is_loopback(host):
            raise ValueError(f"the hub listens on loopback only, not on {host}")
        app = web.Application(middlewares=[_local_only])
        app.add_routes(
            [
                web.get("/emulators", self._emulators),
                web.get("/functions", self._functions),
                web.post("/functions/kill", self._kill),
                web.post("/functions/restart", self._restart),
                web.post("/schedules/{name}/run", self._run_schedule),
                web.post("/faults", self._add_fault),
                web.delete("/faults", self._clear_faults),
                web.post("/clock", self._advance),
                web.get("/deliveries", self._log),
                web.get("/idle", self._idle),
            ]
        )
        self._server = await serve(app, host, port)
        return self._server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def wait_idle(self, timeout_seconds: float) -> bool:
        """True once nothing is in flight; False if that takes longer than the timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                # Who is busy is asked rather than told, so that work which is due but not begun counts too.
                while any(busy() for busy in self._busy):  # noqa: ASYNC110
                    await asyncio.sleep(_IDLE_POLL_SECONDS)
        except TimeoutError:
            return False
        return True

    async def _emulators(self, _request: web.Request) -> web.Response:
        running = {}
        for name, address in self._services.items():
            host, _, port = address.rpartition(":")
            running[name] = {"name": name, "host": host, "port": int(port)}
        return web.json_response(running)

    async def _functions(self, _: web.Request) -> web.Response:
        functions = {
            name: {
                "kind": spec.kind,
                "trigger": spec.trigger,
                "regions": list(spec.regions or (self._host.region,)),
                "timeoutSeconds": spec.timeout_seconds,
            }
            for name, spec in self._host.functions.items()
        }
        state = {"state": self._host.state, "pid": self._host.pid, "restarts": self._host.restarts}
        return web.json_response({**state, "functions": functions})

    async def _kill(self, _: web.Request) -> web.Response:
        pid = self._host.pid
        await self._host.kill()
        return web.json_response({"killed": pid})

    async def _restart(self, request: web.Request) -> web.Response:
        environment = (await _body(request)).get("environment", {})
        if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
            raise _bad_request("environment must map names to texts")
        try:
            await self._host.restart(environment)
        except FunctionsLoadError as error:
            return web.json_response({"error": str(error)}, status=500)
        return web.json_response({"pid": self._host.pid})

    async def _run_schedule(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._schedules.jobs:
            return web.json_response({"error": f"there is no scheduled function {name}"}, status=404)
        outcome = await self._schedules.run_now(name)
        return web.json_response({"result": outcome.result, "status": outcome.status})

    async def _add_fault(self, request: web.Request) -> web.Response:
        body = await _body(request)
        try:
            fault = Fault(**body)
        except TypeError as error:
            raise _bad_request(f"a fault has the fields {', '.join(each.name for each in fields(Fault))}") from error
        numbers = (fault.count, fault.skip, fault.delay_ms)
        if fault.action not in get_args(Action) or not all(type(each) is int and each >= 0 for each in numbers):
            raise _bad_request(f"action is one of {', '.join(get_args(Action))}; numbers are whole and not negative")
        self._plan.add(fault)
        return web.json_response(asdict(fault))

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self._plan.clear()
        return web.json_response({})

    async def _advance(self, request: web.Request) -> web.Response:
        seconds = (await _body(request)).get("advanceSeconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
            raise _bad_request("advanceSeconds must be a number of seconds, and not negative")
        self._clock.advance(seconds)
        return web.json_response({"nowMs": self._clock.now_ms()})

    async def _log(self, request: web.Request) -> web.Response:
        function = request.query.get("function")
        rows = [
            {
                "function": row.function,
                "origin": row.origin,
                "eventId": row.event_id,
                "attempt": row.attempt,
                "result": row.result,
                "status": row.status,
                "ms": row.ms,
                "atMs": row.at_ms,
            }
            for row in self._deliveries.log
            if function is None or row.function == function
        ]
        return web.json_response(rows)

    async def _idle(self, request: web.Request) -> web.Response:
        try:
            timeout_seconds = float(request.query.get("timeout", "30"))
        except ValueError as error:
            raise _bad_request("timeout must be a number of seconds") from error
        idle = await self.wait_idle(timeout_seconds)
        return web.json_response({"idle": idle}, status=200 if idle else 408)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@web.middleware
async def _local_only(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    """A page of any site can send requests to a loopback port, and a name of its own can point there."""
    origin = request.headers.get("Origin")
    hosts = [request.url.host] if origin is None else [request.url.host, URL(origin).host]
    if not all(_is_loopback(host or "") for host in hosts):
        return web.json_response({"error": "for this machine only"}, status=403)
    response: web.StreamResponse = await handler(request)
    return response


async def _body(request: web.Request) -> dict[str, Any]:
    text = await request.text()
    try:
        body = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise _bad_request("the body must be JSON") from error
    if not isinstance(body, dict):
        raise _bad_request("the body must be a JSON object")
    return body


def _bad_request(message: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=json.dumps({"error": message}), content_type="application/json")
