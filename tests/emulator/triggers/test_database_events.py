"""Changes of the Realtime Database as the SDK's handlers see them, in the functions process."""

from typing import Any

import pytest
from support.functions_harness import NAMESPACE, Harness


def seen(functions: Harness, function: str) -> list[Any]:
    functions.wait_idle()
    return [record["data"] for record in functions.records(function)]


def test_a_created_value_comes_with_all_attributes(functions: Harness) -> None:
    request = {"text": "grüße \u2028 😀", "n": 1.5, "list": [True, None, {"a": 1}], "big": 2**53}
    functions.change(None, {"requests": {"ü ni": {"r1": request}}}, "requests/ü ni/r1")
    functions.wait_idle()
    (created,) = functions.records("request_created")
    assert created["data"] == request
    assert created["params"] == {"uid": "ü ni", "requestId": "r1"}
    assert created["reference"] == "requests/ü ni/r1"
    assert created["subject"] == "refs/requests/ü ni/r1"
    assert created["type"] == "google.firebase.database.ref.v1.created"
    assert created["instance"] == NAMESPACE
    assert created["source"].endswith(f"/locations/us-central1/instances/{NAMESPACE}")
    assert (created["host"], created["location"]) == ("firebaseio.com", "us-central1")
    assert (created["auth_type"], created["auth_id"]) == ("app_user", "alice")
    assert created["time"] == "2023-11-14T22:13:20.123000+00:00"
    assert seen(functions, "request_written") == [{"before": None, "after": request}]
    assert not functions.records("request_updated") and not functions.records("request_deleted")
    assert created["id"] != functions.records("request_written")[0]["id"]


def test_an_unauthenticated_write_has_no_auth_id(functions: Harness) -> None:
    functions.change(None, {"requests": {"u": {"r": 1}}}, "requests/u/r", auth_type="unauthenticated", auth_id=None)
    functions.wait_idle()
    (created,) = functions.records("request_created")
    assert (created["auth_type"], created["auth_id"]) == ("unauthenticated", None)


def test_a_write_below_the_pattern_updates_the_whole_node(functions: Harness) -> None:
    functions.change(
        {"requests": {"u": {"r": {"a": {"x": 1, "y": 2}, "b": 3}}}},
        {"requests": {"u": {"r": {"a": {"y": 2}, "b": 3}}}},
        "requests/u/r/a/x",
    )
    expected = {"before": {"a": {"x": 1, "y": 2}, "b": 3}, "after": {"a": {"y": 2}, "b": 3}}
    assert seen(functions, "request_updated") == [expected]
    assert seen(functions, "request_written") == [expected]
    assert not functions.records("request_created") and not functions.records("request_deleted")


def test_a_write_above_the_pattern_reaches_each_node_that_changed(functions: Harness) -> None:
    before = {"u": {"same": 1, "changed": 1, "gone": 1}, "v": {"gone": {"deep": True}}}
    after = {"u": {"same": 1, "changed": True}, "w": {"new": "x"}}
    functions.change({"requests": before}, {"requests": after}, "")
    functions.wait_idle()
    assert {record["reference"] for record in functions.records("request_deleted")} == {
        "requests/u/gone",
        "requests/v/gone",
    }
    assert seen(functions, "request_created") == ["x"]
    assert seen(functions, "request_updated") == [{"before": 1, "after": True}]
    assert len(functions.records("request_written")) == 4


def test_one_update_of_several_paths_is_one_event_for_each_node(functions: Harness) -> None:
    functions.change(
        {"requests": {"u": {"r": {"a": 1, "b": 1}, "s": 1}}},
        {"requests": {"u": {"r": {"a": 2, "b": 2}, "s": 2}}, "elsewhere": 1},
        "requests/u/r/a",
        "requests/u/r/b",
        "requests/u/s",
        "elsewhere",
    )
    functions.wait_idle()
    references = [record["reference"] for record in functions.records("request_written")]
    assert sorted(references) == ["requests/u/r", "requests/u/s"]


def test_writes_that_change_nothing_or_match_nothing_are_silent(functions: Harness) -> None:
    same = {"requests": {"u": {"r": 1}}, "x": 1}
    functions.change(same, {**same, "x": 2}, "requests/u/r", "x")
    functions.change(None, {"requests": {"u": "a leaf above the pattern"}}, "requests/u")
    functions.wait_idle()
    assert not functions.deliveries.log


def test_a_function_hears_of_its_own_instance_only(functions: Harness) -> None:
    functions.change(None, {"other": {"k": 1}}, "other/k")
    functions.change(None, {"other": {"k": 2}}, "other/k", namespace="another-instance")
    assert seen(functions, "other_instance") == [{"before": None, "after": 2}]


def test_an_event_over_the_size_limit_is_not_delivered(functions: Harness) -> None:
    text = "x" * 600_000
    functions.change(None, {"requests": {"u": {"r": text}}}, "requests/u/r")
    assert seen(functions, "request_created") == [text]
    functions.change({"requests": {"u": {"r": text}}}, {"requests": {"u": {"r": text + "y"}}}, "requests/u/r")
    functions.wait_idle()
    assert not functions.records("request_updated")
    assert [row.result for row in functions.log("request_updated")] == ["too_large"]
    assert any("request_updated" in line and "not delivered" in line for line in functions.logged)


def test_a_handler_that_raises_is_logged_and_not_retried(functions: Harness) -> None:
    functions.change(None, {"crashes": {"k": "raise"}}, "crashes/k")
    functions.wait_idle()
    assert [(row.result, row.status, row.attempt) for row in functions.log("crashing")] == [("failed", 500, 1)]
    assert any("RuntimeError: the handler fails" in line for line in functions.logged)
    functions.change(None, {"crashes": {"k": "fine"}}, "crashes/k")
    assert seen(functions, "crashing") == ["raise", "fine"]


def test_a_handler_that_takes_too_long_is_given_up(functions: Harness) -> None:
    functions.change(None, {"slow": {"k": 1}}, "slow/k")
    functions.wait_idle()
    assert [row.result for row in functions.log("slow")] == ["timeout"]


@pytest.mark.parametrize(("action", "times"), [("drop", 0), ("error", 0), ("duplicate", 2), ("error_after", 1)])
def test_faults_of_one_delivery(functions: Harness, action: str, times: int) -> None:
    functions.fault("trigger.request_created", action)
    functions.change(None, {"requests": {"u": {"r": 1}}}, "requests/u/r")
    functions.wait_idle()
    records = functions.records("request_created")
    assert len(records) == times
    assert len({record["id"] for record in records}) == min(times, 1), "a redelivery carries the same id"
    functions.change(None, {"requests": {"u": {"s": 2}}}, "requests/u/s")
    assert seen(functions, "request_created")[times:] == [2], "the fault strikes once"


def test_a_delayed_delivery_waits_for_the_clock(functions: Harness) -> None:
    functions.fault("trigger.request_created", "delay", delay_ms=3_600_000)
    functions.change(None, {"requests": {"u": {"late": 1}}}, "requests/u/late")
    functions.change(None, {"requests": {"u": {"early": 2}}}, "requests/u/early")
    assert not functions.thread.run(functions.hub.wait_idle(0.2))
    assert [record["data"] for record in functions.records("request_created")] == [2]
    functions.advance(3600)
    assert seen(functions, "request_created") == [2, 1]
