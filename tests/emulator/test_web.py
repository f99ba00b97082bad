"""Servers of the embedded services end cleanly, whatever is on its way to them."""

import gc
import socket
import sys
import threading
from typing import Any

import pytest
from aiohttp import web
from support.loop import LoopThread

from emulator.web import RunningServer, serve

_CONNECTIONS_MAX = 200


def _connect_until(ended: threading.Event, server: RunningServer, opened: list[socket.socket]) -> None:
    while not ended.is_set() and len(opened) < _CONNECTIONS_MAX:
        try:
            opened.append(socket.create_connection((server.host, server.port)))
        except OSError:
            return


def test_what_connects_while_a_server_stops_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is left open is only noticed when it is collected, in whichever test that happens."""
    left: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", left.append)
    for _ in range(20):
        with LoopThread() as thread:
            server = thread.run(serve(web.Application(), "127.0.0.1", 0))
            ended, opened = threading.Event(), list[socket.socket]()
            storm = threading.Thread(target=_connect_until, args=(ended, server, opened))
            storm.start()
            thread.run(server.stop())
        ended.set()
        storm.join()
        for connection in opened:
            connection.close()
    del thread, server
    gc.collect()
    assert left == []


def test_a_port_that_is_taken_is_an_error() -> None:
    with LoopThread() as thread:
        server = thread.run(serve(web.Application(), "127.0.0.1", 0))
        with pytest.raises(OSError, match="in use"):
            thread.run(serve(web.Application(), "127.0.0.1", server.port))
        thread.run(server.stop())
