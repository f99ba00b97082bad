"""The embedded Firestore alone, in a process of its own: prints its port, and ends with its standard input.

The ledger's appends are compared with bare transactions here, where no function hears of either.
"""

import asyncio
import sys

from emulator.firestore import FirestoreServer


async def _serve() -> None:
    server = FirestoreServer()
    print(await server.start(), flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(
        sys.stdin.fileno(), lambda: ended.set() if not sys.stdin.buffer.read1(4096) else None
    )
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(_serve())
