"""HTTP servers of the embedded services: aiohttp, loopback only, ports known after they are bound."""

from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A bound server. `port` is the real one where 0 was asked for."""

    host: str
    port: int
    _runner: web.AppRunner

    @property
    def address(self) -> str:
        """host:port, as the *_EMULATOR_HOST variables want it."""
        return f"{self.host}:{self.port}"

    async def stop(self) -> None:
        await self._runner.cleanup()


async def serve(app: web.Application, host: str, port: int) -> RunningServer:
    """Binds and serves until stop(). Raises OSError if the port is taken."""
    # Open streams (SSE) must not delay a stop: they are cut at once.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    bound: tuple[str, int] = runner.addresses[0][:2]
    return RunningServer(host=bound[0], port=bound[1], _runner=runner)
