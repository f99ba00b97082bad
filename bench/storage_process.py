"""The embedded Cloud Storage alone, in a process of its own: prints its port, and ends with its standard input."""

import asyncio

from bench.lifeline import until_input_ends
from emulator.clock import Clock
from emulator.faults import FaultPlan
from emulator.persistence import Store
from emulator.storage import StorageServer


async def _serve() -> None:
    server = StorageServer(project_id="demo-concierge", clock=Clock(), store=Store(None), faults=FaultPlan())
    running = await server.start("127.0.0.1", 0)
    print(running.address.rpartition(":")[2], flush=True)
    await until_input_ends()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(_serve())
