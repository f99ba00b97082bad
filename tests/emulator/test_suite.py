"""All services together, with the fixture app as the functions."""

import errno
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.functions_harness import FUNCTIONS_APP
from support.loop import LoopThread

from emulator.suite import OFFICIAL_PORTS, Suite, SuiteOptions
from emulator.triggers.host import FunctionsHost


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Suite]:
    monkeypatch.setenv("RECORD_FILE", str(tmp_path / "records.jsonl"))
    source = shutil.copytree(FUNCTIONS_APP, tmp_path / "functions")
    (tmp_path / "firebase.json").write_text(json.dumps({"hosting": {"public": "site"}}))
    with LoopThread() as thread:
        started = thread.call(Suite, SuiteOptions(source), {})
        try:
            thread.run(started.start())
            yield started
        finally:
            thread.run(started.stop())


def is_taken(host: str, port: int) -> bool:
    with socket.socket() as other:
        try:
            other.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def test_every_service_listens_on_loopback_only(suite: Suite) -> None:
    assert set(suite.services) == set(OFFICIAL_PORTS)
    addresses = dict(suite.services)
    (host,) = (each for each in suite._running if isinstance(each, FunctionsHost))
    assert host._worker is not None
    addresses["the functions' process"] = f"127.0.0.1:{host._worker.port}"
    for service, address in addresses.items():
        name, port = address.split(":")
        assert name == "127.0.0.1", service
        assert is_taken(name, int(port)), service
        # A service that listens on all interfaces has this address, too.
        assert not is_taken("127.0.0.2", int(port)), service
