"""The embedded Firestore alone, in a process of its own: prints its port, and ends with its standard input.

The ledger's appends are compared with bare transactions here, where no function hears of either.
"""

import asyncio

from bench.lifeline import until_input_ends
from emulator.firestore import FirestoreServer


async def _serve() -> None:
    server = FirestoreServer()
    print(await server.start(), flush=True)
    await until_input_ends()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(_serve())
