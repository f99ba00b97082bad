"""The hub's switches, as tests and developers use them."""

from typing import Any

import httpx
import pytest
from support.functions_harness import Harness

from emulator.faults import Fault


def post(functions: Harness, path: str, body: Any = None) -> httpx.Response:
    return httpx.post(functions.hub_url + path, json=body if body is not None else {}, timeout=60)


def get(functions: Harness, path: str) -> httpx.Response:
    return httpx.get(functions.hub_url + path, timeout=60)


def test_running_services_and_functions(functions: Harness) -> None:
    assert get(functions, "/emulators").json() == {
        "functions": {"name": "functions", "host": "127.0.0.1", "port": 5001}
    }
    state = get(functions, "/functions").json()
    assert (state["state"], state["pid"]) == ("ready", functions.host.pid)
    assert state["functions"]["add"] == {
        "kind": "callable",
        "trigger": {},
        "regions": ["us-central1"],
        "timeoutSeconds": 60.0,
    }


def test_killing_and_restarting_functions(functions: Harness) -> None:
    pid = functions.host.pid
    assert post(functions, "/functions/kill").json() == {"killed": pid}
    assert get(functions, "/functions").json()["state"] == "down"
    assert post(functions, "/functions/restart", {"environment": {"FAIL_TO_LOAD": 1}}).status_code == 400
    failed = post(functions, "/functions/restart", {"environment": {"FAIL_TO_LOAD": "1"}})
    assert failed.status_code == 500 and "told not to load" in failed.json()["error"]
    assert get(functions, "/functions").json()["state"] == "failed"
    restarted = post(functions, "/functions/restart")
    assert restarted.json() == {"pid": functions.host.pid} and functions.host.pid not in (None, pid)


def test_faults_deliveries_and_idleness(functions: Harness) -> None:
    fault = {"target": "trigger.request_created", "action": "delay", "delay_ms": 60_000}
    assert post(functions, "/faults", fault).json() == {**fault, "count": 1, "skip": 0}
    functions.change(None, {"requests": {"u": {"r": 1}}}, "requests/u/r")
    busy = get(functions, "/idle?timeout=0.1")
    assert (busy.status_code, busy.json()) == (408, {"idle": False})
    assert post(functions, "/clock", {"advanceSeconds": 60}).json()["nowMs"] <= functions.clock.now_ms()
    assert get(functions, "/idle").json() == {"idle": True}
    (delivery,) = get(functions, "/deliveries?function=request_created").json()
    assert (delivery["result"], delivery["status"], delivery["attempt"]) == ("ok", 200, 1)
    assert delivery["eventId"] == functions.records("request_created")[0]["id"]
    assert delivery["ms"] > 0 and delivery["origin"] == "event"
    assert len(get(functions, "/deliveries").json()) == 2

    post(functions, "/faults", fault)
    assert httpx.delete(functions.hub_url + "/faults").status_code == 200
    assert functions.plan.take("trigger.request_created") is None


def test_running_a_schedule(functions: Harness) -> None:
    assert post(functions, "/schedules/sweep/run").json() == {"result": "ok", "status": 200}
    assert post(functions, "/schedules/api/run").status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/faults", {"target": "x", "action": "explode"}),
        ("/faults", {"target": "x", "action": "drop", "count": "1"}),
        ("/faults", {"target": "x", "action": "drop", "unknown": 1}),
        ("/faults", {"action": "drop"}),
        ("/clock", {"advanceSeconds": -1}),
        ("/clock", {"advanceSeconds": "60"}),
        ("/clock", {}),
        ("/clock", [1]),
    ],
)
def test_bad_requests_change_nothing(functions: Harness, path: str, body: Any) -> None:
    response = post(functions, path, body)
    assert response.status_code == 400 and response.json()["error"]
    assert functions.plan.take("x") is None


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}])
def test_a_web_page_cannot_turn_the_switches(functions: Harness, headers: dict[str, str]) -> None:
    response = httpx.post(f"{functions.hub_url}/faults", json={"target": "x", "action": "drop"}, headers=headers)
    assert response.status_code == 403
    assert functions.thread.call(functions.plan.take, "x") is None


def test_an_open_address_is_refused(functions: Harness) -> None:
    with pytest.raises(ValueError, match="loopback"):
        functions.thread.run(functions.hub.start("0.0.0.0", 0))


def test_the_plan_takes_what_was_added(functions: Harness) -> None:
    post(functions, "/faults", {"target": "x", "action": "duplicate", "count": 2})
    assert functions.thread.call(functions.plan.take, "x") == Fault("x", "duplicate", count=2)
