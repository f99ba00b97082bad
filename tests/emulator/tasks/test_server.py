"""Cloud Tasks through the unmodified Admin SDK, dispatching to real functions."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import firebase_admin
import httpx
import pytest
from firebase_admin import exceptions
from firebase_admin import functions as admin_functions
from firebase_admin.functions import TaskOptions, TaskQueue
from support.functions_harness import PROJECT, REGION, Harness
from support.waiting import eventually

from emulator.persistence import Store
from emulator.tasks.server import TasksServer


@pytest.fixture
def queue(functions: Harness, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskQueue]:
    yield from task_queue(functions.tasks_address, monkeypatch)


def task_queue(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskQueue]:
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", address)
    app = firebase_admin.initialize_app(options={"projectId": PROJECT}, name=f"tasks-{address}")
    queue = admin_functions.task_queue("work", app=app)
    yield queue
    queue._http_client.close()
    firebase_admin.delete_app(app)


def headers(record: dict[str, Any]) -> dict[str, str]:
    return {name.lower(): value for name, value in record["headers"].items()}


def test_a_task_reaches_its_function(functions: Harness, queue: TaskQueue) -> None:
    custom = {"X-Custom": "kept", "x-cloudtasks-taskname": "not yours", "Content-Length": "1"}
    task_id = queue.enqueue({"data": {"n": "grüße"}}, TaskOptions(headers=custom))
    functions.wait_idle()
    (record,) = functions.records("work")
    assert record["data"] == {"n": "grüße"}
    seen = headers(record)
    assert (seen["x-cloudtasks-queuename"], seen["x-cloudtasks-taskname"]) == ("work", task_id)
    assert (seen["x-cloudtasks-taskretrycount"], seen["x-cloudtasks-taskexecutioncount"]) == ("0", "0")
    assert abs(float(seen["x-cloudtasks-tasketa"]) - functions.clock.now_ms() / 1000) < 60
    assert seen["x-custom"] == "kept"
    assert functions.tasks.queues.tasks("work") == []


def test_a_body_that_is_not_wrapped_fails_as_it_does_in_production(functions: Harness, queue: TaskQueue) -> None:
    queue.enqueue({"n": 1})
    functions.wait_idle()
    assert [row.status for row in functions.log("work")] == [400] and not functions.records("work")
    functions.thread.call(functions.tasks.queues.purge, "work", functions.clock.now_ms())


def test_retries_back_off_and_end(functions: Harness, queue: TaskQueue) -> None:
    queue.enqueue({"data": {"failures": 9}}, TaskOptions(task_id="hopeless"))
    for attempt, seconds in ((1, 10), (2, 20), (3, 0)):
        eventually(lambda number=attempt: len(functions.log("work")) == number)
        functions.wait_idle()
        seen = headers(functions.records("work")[-1])
        assert seen["x-cloudtasks-taskretrycount"] == seen["x-cloudtasks-taskexecutioncount"] == str(attempt - 1)
        assert seen.get("x-cloudtasks-taskpreviousresponse") == (None if attempt == 1 else "500")
        if seconds:
            functions.advance(seconds - 2)
            functions.wait_idle()
            assert len(functions.log("work")) == attempt, "it is not time yet"
            functions.advance(3)
    assert functions.tasks.queues.tasks("work") == []
    assert any("hopeless is given up after 3 attempts" in line for line in functions.logged)


def test_a_retry_that_succeeds_is_the_last_one(functions: Harness, queue: TaskQueue) -> None:
    queue.enqueue({"data": {"failures": 1}})
    functions.wait_idle()
    functions.advance(11)
    eventually(lambda: len(functions.log("work")) == 2)
    functions.wait_idle()
    assert [row.result for row in functions.log("work")] == ["failed", "ok"]
    assert functions.tasks.queues.tasks("work") == []


def test_named_tasks_run_once(functions: Harness, queue: TaskQueue) -> None:
    options = TaskOptions(task_id="only-once")
    assert queue.enqueue({"data": {}}, options) == "only-once"
    functions.wait_idle()
    with pytest.raises(exceptions.AlreadyExistsError):
        queue.enqueue({"data": {}}, options)
    functions.advance(3601)
    queue.enqueue({"data": {}}, options)
    functions.wait_idle()
    assert len(functions.records("work")) == 2


def test_a_scheduled_task_waits_and_can_be_deleted(functions: Harness, queue: TaskQueue) -> None:
    at = functions.clock.now() + timedelta(hours=1)
    queue.enqueue({"data": {"n": 1}}, TaskOptions(schedule_time=at, task_id="later"))
    queue.enqueue({"data": {"n": 2}}, TaskOptions(schedule_time=at, task_id="deleted"))
    functions.wait_idle()
    listing = httpx.get(f"http://{functions.tasks_address}/v2/projects/{PROJECT}/locations/{REGION}/queues/work/tasks")
    assert {task["name"].rpartition("/")[2] for task in listing.json()["tasks"]} == {"later", "deleted"}
    queue.delete("deleted")
    with pytest.raises(exceptions.NotFoundError):
        queue.delete("deleted")
    assert not functions.records("work")
    functions.advance(3601)
    functions.wait_idle()
    assert [record["data"] for record in functions.records("work")] == [{"n": 1}]


def test_what_is_refused(functions: Harness, queue: TaskQueue) -> None:
    unknown = admin_functions.task_queue("sweep", app=firebase_admin.get_app(f"tasks-{functions.tasks_address}"))
    with pytest.raises(exceptions.NotFoundError):
        unknown.enqueue({"data": {}})
    with pytest.raises(exceptions.InvalidArgumentError, match="30 days"):
        queue.enqueue({"data": {}}, TaskOptions(schedule_time=functions.clock.now() + timedelta(days=31)))
    with pytest.raises(exceptions.InvalidArgumentError, match="calls work only"):
        queue.enqueue({"data": {}}, TaskOptions(uri="https://example.com/steal"))
    url = f"http://{functions.tasks_address}/projects/{PROJECT}/locations/{REGION}/queues/work/tasks"
    for body in ({}, {"task": {}}, {"task": {"httpRequest": {"body": "!"}}}, []):
        assert httpx.post(url, json=body).status_code == 400
    assert httpx.post(url.replace(REGION, "mars-1"), json={}).status_code == 404
    queue.enqueue({"data": {}}, TaskOptions(uri=f"https://{REGION}-{PROJECT}.cloudfunctions.net/work"))
    functions.wait_idle()
    assert len(functions.records("work")) == 1


@pytest.mark.parametrize(("action", "times"), [("drop", 1), ("error_after", 2), ("duplicate", 2)])
def test_faulty_deliveries_never_lose_a_task(functions: Harness, queue: TaskQueue, action: str, times: int) -> None:
    functions.fault("trigger.work", action)
    queue.enqueue({"data": {"n": 1}}, TaskOptions(task_id=f"fault-{action}"))
    functions.wait_idle()
    functions.advance(11)
    functions.wait_idle()
    assert len(functions.records("work")) == times
    assert functions.tasks.queues.tasks("work") == []


def test_a_task_whose_process_dies_is_tried_again(functions: Harness, queue: TaskQueue) -> None:
    queue.enqueue({"data": {"exit": True}})
    eventually(lambda: functions.log("work"))
    assert functions.log("work")[0].result == "lost"
    functions.advance(11)
    eventually(lambda: len(functions.log("work")) == 2)
    assert [row.result for row in functions.log("work")] == ["lost", "ok"]
    first, second = functions.records("work")
    assert first["pid"] != second["pid"]
    assert headers(second)["x-cloudtasks-taskretrycount"] == "1"
    assert headers(second)["x-cloudtasks-taskexecutioncount"] == "0", "it never answered"


def test_pending_tasks_survive_a_restart_of_the_service(
    functions: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(store: Store) -> TasksServer:
        return TasksServer(
            host=functions.host,
            deliveries=functions.deliveries,
            clock=functions.clock,
            store=store,
            project=PROJECT,
            region=REGION,
        )

    store = Store(tmp_path)
    first = functions.thread.call(build, store)
    address = functions.thread.run(first.start(port=0)).address
    # A delay would be counted from this machine's time, which the clock of the services is ahead of by now.
    at = functions.clock.now() + timedelta(hours=2)
    for queue in task_queue(address, monkeypatch):
        queue.enqueue({"data": {"n": "kept"}}, TaskOptions(schedule_time=at))
    # Nothing is stopped in an orderly way: the rows were written when the task was made.
    reopened = Store(tmp_path)
    second = functions.thread.call(build, reopened)
    functions.thread.run(first.stop())
    functions.thread.run(second.start(port=0))
    functions.advance(7300)
    eventually(lambda: functions.records("work"))
    assert [record["data"] for record in functions.records("work")] == [{"n": "kept"}]
    functions.thread.run(second.stop())
    store.close()
    reopened.close()
