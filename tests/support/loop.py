"""An event loop in a thread of its own, for servers that tests reach over real sockets."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from support.waiting import PATIENCE_SECONDS

Result = TypeVar("Result")


class LoopThread:
    """Runs what it is given until it is closed, which leaving the context does."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Starts a coroutine and does not wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Waits for a coroutine."""
        return self.submit(coroutine).result(PATIENCE_SECONDS)

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Calls a plain function on the loop."""

        async def run() -> Result:
            return function(*arguments)

        return self.run(run())

    def close(self) -> None:
        self.run(_end_other_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _end_other_tasks() -> None:
    """A task that is left on a closed loop never lets go of what it holds, as an accept of its socket."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)
