"""The composition root on a cold instance."""

import threading
from concurrent.futures import ThreadPoolExecutor

from concierge.wiring import once


def test_events_that_come_together_on_a_cold_instance_share_what_is_built() -> None:
    building, others_wait = threading.Event(), threading.Barrier(4)
    built = []

    @once
    def thing() -> object:
        building.set()
        # The first thread is in the middle of it when the others ask.
        others_wait.wait(30)
        built.append(object())
        return built[-1]

    def ask() -> object:
        building.wait(30)
        others_wait.wait(30)
        return thing()

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(thing)
        others = [pool.submit(ask) for _ in range(3)]
        assert {id(future.result()) for future in (first, *others)} == {id(built[0])}
    assert len(built) == 1
    assert thing() is built[0]
