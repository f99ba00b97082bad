"""The Realtime Database as one service: state, rules and protocols put together."""

from aiohttp import web

from emulator.clock import Clock
from emulator.contracts import RtdbListener, TokenVerifier
from emulator.faults import FaultPlan
from emulator.persistence import Store
from emulator.rtdb.credentials import Authenticator
from emulator.rtdb.database import Databases
from emulator.rtdb.rest import RestApi
from emulator.rtdb.rules.ruleset import LOCKED, load
from emulator.rtdb.sse import KEEP_ALIVE_SECONDS
from emulator.web import RunningServer, serve

BODY_BYTES_MAX = 256 * 1024 * 1024
"""The largest body of a REST call, as in production."""


class RtdbServer:
    """Serves any namespace as a database of its own, all under the same rules.

    `rules_text` is a database.rules.json; None locks the databases for everybody but administrators. Raises RulesError
    for rules that cannot be loaded. A call without `ns` means `{project_id}-default-rtdb`.
    """

    def __init__(
        self,
        *,
        project_id: str,
        clock: Clock,
        store: Store,
        faults: FaultPlan,
        verify_token: TokenVerifier,
        rules_text: str | None = None,
        body_bytes_max: int = BODY_BYTES_MAX,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        self.default_namespace = f"{project_id}-default-rtdb"
        self.databases = Databases(clock=clock, store=store, rules=load(LOCKED if rules_text is None else rules_text))
        self._body_bytes_max = body_bytes_max
        self._rest = RestApi(
            databases=self.databases,
            authenticator=Authenticator(verify_token, clock),
            clock=clock,
            faults=faults,
            default_namespace=self.default_namespace,
            keep_alive_seconds=keep_alive_seconds,
        )
        self._running: RunningServer | None = None

    @property
    def listeners(self) -> list[RtdbListener]:
        """Called with every commit, in commit order, on the event loop."""
        return self.databases.listeners

    def set_rules(self, text: str) -> None:
        """Replaces the rules and cancels the streams that they no longer allow. Raises RulesError, changing nothing."""
        self.databases.set_rules(load(text))

    async def start(self, host: str, port: int) -> RunningServer:
        """Binds and serves. Raises OSError if the port is taken."""
        app = web.Application(client_max_size=self._body_bytes_max)
        app.router.add_route("*", "/{path:.*}", self._rest.handle)
        self._running = await serve(app, host, port)
        return self._running

    async def stop(self) -> None:
        """Cuts open streams and unbinds; does nothing if it is not running."""
        if self._running is not None:
            await self._running.stop()
            self._running = None
