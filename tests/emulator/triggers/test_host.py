"""The life of the functions process: started, killed, crashed, restarted."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.functions_harness import FUNCTIONS_APP, PROJECT, REGION, Harness
from support.waiting import PATIENCE_SECONDS, eventually

from emulator.functions import Message, Outcome
from emulator.triggers.deliveries import Deliveries
from emulator.triggers.events import CloudEvent
from emulator.triggers.host import FunctionsLoadError, FunctionsUnavailable


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_every_kind_of_function_is_discovered(functions: Harness) -> None:
    specs = functions.host.functions
    kinds = {name: spec.kind for name, spec in specs.items()}
    assert kinds["request_created"] == kinds["account_created"] == "event"
    assert (kinds["api"], kinds["add"], kinds["work"], kinds["sweep"]) == ("https", "callable", "task", "schedule")
    assert specs["request_created"].trigger["eventFilterPathPatterns"]["ref"] == "requests/{uid}/{requestId}"
    assert specs["request_created"].retry is False and specs["retried"].retry is True
    assert specs["slow"].timeout_seconds == 1 and specs["api"].timeout_seconds == 60
    # A parameter is resolved, and an option that was reset is left out.
    assert specs["work"].trigger["retryConfig"] == {
        "maxAttempts": 3,
        "minBackoffSeconds": 10,
        "maxBackoffSeconds": 300,
        "maxDoublings": 3,
    }
    assert specs["sweep"].trigger["schedule"] == "every 5 minutes"


def test_what_functions_print_reaches_the_log(running: Harness) -> None:
    assert "the fixture app is loaded" in running.printed_at_start
    assert "a warning for the log" in running.printed_at_start


def test_a_crash_loses_what_is_in_flight_and_the_next_event_finds_a_new_process(functions: Harness) -> None:
    def extra() -> str | None:
        answer = functions.thread.run(functions.host.call("api", method="GET"))
        value: str | None = json.loads(answer.body)["extra"]
        return value

    functions.thread.run(functions.host.restart({"EXTRA": "for one process"}))
    first = functions.host.pid
    assert extra() == "for one process"
    functions.change(None, {"crashes": {"a": "wait"}}, "crashes/a")
    eventually(lambda: functions.records("crashing"), "the first event's start")
    functions.change(None, {"crashes": {"b": "exit"}}, "crashes/b")
    eventually(lambda: len(functions.log("crashing")) == 2, "the loss of both deliveries")
    assert {row.result for row in functions.log("crashing")} == {"lost"}
    # The next event comes while there is no process, and waits for it.
    functions.change(None, {"crashes": {"c": "fine"}}, "crashes/c")
    functions.wait_idle()
    assert [(row.result, row.attempt) for row in functions.log("crashing")][2:] == [("ok", 1)]
    last = functions.records("crashing")[-1]
    assert (last["data"], last["pid"]) == ("fine", functions.host.pid)
    assert functions.host.pid != first
    assert any("ended with status 86" in line for line in functions.logged)
    assert extra() is None, "the platform starts an instance as it was deployed"


def test_killed_functions_stay_down_until_they_are_restarted(functions: Harness) -> None:
    pid = functions.host.pid
    assert pid is not None
    functions.thread.run(functions.host.kill())
    assert functions.host.state == "down" and functions.host.pid is None and ended(pid)
    functions.change(None, {"requests": {"u": {"r": 1}}}, "requests/u/r")
    assert not functions.thread.run(functions.hub.wait_idle(0.2)), "the event waits"
    functions.thread.run(functions.host.restart())
    functions.wait_idle()
    assert [record["data"] for record in functions.records("request_created")] == [1]


def test_the_concurrency_of_deliveries_can_be_bounded(functions: Harness) -> None:
    def build() -> Deliveries:
        return Deliveries(host=functions.host, clock=functions.clock, plan=functions.plan, max_concurrency=2)

    async def deliver_all() -> list[Outcome]:
        return await asyncio.gather(*(bounded.deliver(Message("gate", "task", str(n), {}, b"")) for n in range(5)))

    bounded = functions.thread.call(build)
    deliveries = functions.thread.submit(deliver_all())
    eventually(lambda: len(functions.records("gate")) == 2, "the first two")
    functions.thread.run(functions.host.call("cors_api"))
    assert len(functions.records("gate")) == 2 and bounded.busy()
    functions.flag("gate-opens")
    assert all(outcome.ok for outcome in deliveries.result(PATIENCE_SECONDS))
    assert len(functions.records("gate")) == 5 and not bounded.busy()


def test_retries_of_an_event_carry_its_id_and_end_with_success(functions: Harness) -> None:
    attributes = dict.fromkeys(("ref", "instance", "firebasedatabasehost", "location", "subject"), "k")
    attributes |= {"specversion": "1.0", "id": "event-1", "source": "//test", "time": "2026-01-01T00:00:00Z"}
    attributes |= {"type": "test.topic.published", "topic": "news"}
    event = CloudEvent(attributes, b'{"data": null, "delta": 5}', data_is_json=True)
    functions.thread.call(
        functions.dispatcher.publish, CloudEvent({**attributes, "topic": "other"}, event.data, data_is_json=True)
    )
    functions.wait_idle()
    assert not functions.deliveries.log
    functions.thread.call(functions.dispatcher.publish, event)
    functions.wait_idle()
    assert [row.result for row in functions.log("retried")] == ["failed"]
    functions.flag("retried-succeeds")
    functions.advance(9)
    functions.wait_idle()
    assert len(functions.log("retried")) == 1, "it is not time yet"
    functions.advance(2)
    eventually(lambda: len(functions.log("retried")) == 2)
    assert [(row.result, row.attempt) for row in functions.log("retried")] == [("failed", 1), ("ok", 2)]
    assert {record["id"] for record in functions.records("retried")} == {"event-1"}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path, {"FAIL_TO_LOAD": "1"}, restart_on_crash=False)
    yield harness
    harness.close()


async def call_a_process_whose_end_nobody_noticed(harness: Harness) -> None:
    pid, worker = harness.host.pid, harness.host._worker
    assert pid is not None and worker is not None and harness.host.state == "ready"
    os.kill(pid, signal.SIGKILL)
    refused = False
    while not refused:
        # Without a pause: while the loop is held up here, nothing else learns of it.
        with socket.socket() as probe:
            refused = probe.connect_ex(("127.0.0.1", worker.port)) != 0
    assert harness.host.state == "ready"
    await harness.host.call("api")


def test_functions_that_do_not_load_say_why(fresh: Harness) -> None:
    with pytest.raises(FunctionsLoadError, match=r"RuntimeError: this app was told not to load"):
        fresh.thread.run(fresh.host.start())
    assert fresh.host.state == "failed"
    with pytest.raises(FunctionsUnavailable, match="told not to load"):
        fresh.thread.run(fresh.host.call("api"))
    # Repaired functions can be started again; without restart_on_crash a crash is final.
    fresh.thread.run(fresh.host.restart({"FAIL_TO_LOAD": ""}))
    with pytest.raises(FunctionsUnavailable):
        fresh.thread.run(call_a_process_whose_end_nobody_noticed(fresh))
    assert fresh.host.state == "stopped"
    front = fresh.thread.run(fresh.front.start(port=0))
    assert httpx.get(f"http://{front.address}/{PROJECT}/{REGION}/api").status_code == 503
    # What is committed meanwhile is lost, and does not wait for ever.
    fresh.change(None, {"requests": {"u": {"r": 1}}}, "requests/u/r")
    fresh.wait_idle()
    assert {row.result for row in fresh.deliveries.log} == {"unavailable"}


def test_functions_that_are_still_loading_can_be_stopped(fresh: Harness) -> None:
    starting = fresh.thread.submit(fresh.host.start())
    pid = eventually(lambda: fresh.host.pid)
    fresh.thread.run(fresh.host.stop())
    with pytest.raises(FunctionsLoadError):
        starting.result(PATIENCE_SECONDS)
    assert fresh.host.state == "stopped" and ended(pid)


def test_the_process_ends_with_its_parent() -> None:
    command = [sys.executable, "-m", "emulator.triggers.worker", "--source", str(FUNCTIONS_APP), "--project", "demo"]
    environment = {**os.environ, "RECORD_FILE": os.devnull}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert json.loads(process.stdout.readline())["pid"] == process.pid
        assert process.poll() is None
        # The system closes a dead parent's end of the pipe.
        process.stdin.close()
        assert process.wait(PATIENCE_SECONDS) == 0
