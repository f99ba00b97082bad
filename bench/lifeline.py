"""How the processes of a benchmark end: with their standard input, hence with the process that started them."""

import asyncio
import os
import signal
import sys


async def until_input_ends() -> None:
    ended = asyncio.Event()

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            ended.set()

    loop = asyncio.get_running_loop()
    # Interrupts of a terminal reach the whole group; the parent decides when this process ends.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_reader(sys.stdin.fileno(), read)
    await ended.wait()
