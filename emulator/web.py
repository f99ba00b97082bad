"""HTTP servers of the embedded services: aiohttp, loopback only, ports known after they are bound."""

import asyncio
import socket
from dataclasses import dataclass

from aiohttp import web

_BACKLOG = 128
# Accepting a connection takes the event loop three turns: the accept, its transport, its protocol.
_TURNS_TO_ACCEPT = 4


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A bound server. `port` is the real one where 0 was asked for."""

    host: str
    port: int
    _runner: web.AppRunner
    _listening: socket.socket

    @property
    def address(self) -> str:
        """host:port, as the *_EMULATOR_HOST variables want it."""
        return f"{self.host}:{self.port}"

    async def stop(self) -> None:
        """Closes everything, also what was accepted a moment ago.

        asyncio cannot finish an accept once its server is closed, and leaks the socket. So nothing more is accepted
        first, then what is on its way gets its protocol, and only then the server ends.
        """
        asyncio.get_running_loop().remove_reader(self._listening)
        for _ in range(_TURNS_TO_ACCEPT):
            await asyncio.sleep(0)
        await self._runner.cleanup()


async def serve(app: web.Application, host: str, port: int) -> RunningServer:
    """Binds and serves until stop(). Raises OSError if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    # Open streams (SSE) must not delay a stop: they are cut at once.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listening, backlog=_BACKLOG).start()
    bound: tuple[str, int] = listening.getsockname()[:2]
    return RunningServer(host=bound[0], port=bound[1], _runner=runner, _listening=listening)
