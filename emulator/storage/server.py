"""Cloud Storage as one service: state and protocol put together."""

from aiohttp import web

from emulator.clock import Clock
from emulator.faults import FaultPlan
from emulator.persistence import Store
from emulator.storage.objects import Buckets
from emulator.storage.rest import RestApi
from emulator.web import RunningServer, serve

BODY_BYTES_MAX = 256 * 1024 * 1024
"""The largest single request; production takes more, and a developer's machine should not."""


class StorageServer:
    """The buckets of one project, `{project}.appspot.com` from the start."""

    def __init__(self, *, project_id: str, clock: Clock, store: Store, faults: FaultPlan) -> None:
        self.default_bucket = f"{project_id}.appspot.com"
        self.buckets = Buckets(default=self.default_bucket, clock=clock, store=store)
        self._rest = RestApi(buckets=self.buckets, faults=faults, project=project_id)
        self._running: RunningServer | None = None

    async def start(self, host: str, port: int) -> RunningServer:
        """Binds and serves. Raises OSError if the port is taken."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self._rest.handle)
        self._running = await serve(app, host, port)
        return self._running

    async def stop(self) -> None:
        """Unbinds; does nothing if it is not running."""
        if self._running is not None:
            await self._running.stop()
            self._running = None
