"""The public address of HTTPS and callable functions: `/{project}/{region}/{function}/...` (official port 5001)."""

from aiohttp import web

from emulator.triggers.host import FunctionsHost
from emulator.triggers.proxy import proxy
from emulator.web import RunningServer, serve


class FunctionsFront:
    """Answers for the functions that the internet may call; everything else is 404, as on the platform."""

    def __init__(self, *, host: FunctionsHost) -> None:
        self._host = host
        self._server: RunningServer | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 5001) -> RunningServer:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._handle)
        self._server = await serve(app, host, port)
        return self._server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw_path, question, query = request.raw_path.partition("?")
        parts = raw_path.removeprefix("/").split("/", 3)
        project, region, function = [*parts[:3], "", "", ""][:3]
        spec = self._host.functions.get(function)
        if project != self._host.project or spec is None or not spec.serves(region, self._host.region):
            return web.Response(status=404, text=f"Function {function} in {project}/{region} does not exist\n")
        if not spec.reachable:
            return web.Response(status=404, text=f"Function {function} is not callable over HTTPS\n")
        rest = parts[3] if len(parts) > 3 else ""
        return await proxy(request, self._host, function, f"/{rest}{question}{query}")
