"""All that runs functions, on an event loop in a thread of its own, with the fixture app behind it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.loop import LoopThread
from support.waiting import PATIENCE_SECONDS

from emulator.clock import Clock
from emulator.contracts import RtdbChange
from emulator.faults import Fault, FaultPlan
from emulator.persistence import Store
from emulator.tasks.server import TasksServer
from emulator.triggers import hosting
from emulator.triggers.deliveries import Deliveries, Delivery
from emulator.triggers.dispatch import Dispatcher
from emulator.triggers.front import FunctionsFront
from emulator.triggers.host import FunctionsHost, worker_environment
from emulator.triggers.hosting import Hosting
from emulator.triggers.hub import Hub
from emulator.triggers.schedules import Schedules

PROJECT = "demo-fixture"
REGION = "us-central1"
NAMESPACE = "demo-fixture-default-rtdb"
FUNCTIONS_APP = Path(__file__).resolve().parents[1] / "fixtures" / "functions_app"


@dataclass(frozen=True)
class Tree:
    """A version of a database, as plain JSON."""

    root: Any

    def value(self, path: tuple[str, ...]) -> Any:
        node = self.root
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    def keys(self, path: tuple[str, ...]) -> Iterable[str]:
        node = self.value(path)
        return list(node) if isinstance(node, dict) else []


def rtdb_change(before: Any, after: Any, *paths: str, namespace: str = NAMESPACE, **fields: Any) -> RtdbChange:
    """One commit that wrote at `paths`."""
    values: dict[str, Any] = {"auth_type": "app_user", "auth_id": "alice", "at_ms": 1_700_000_000_123, **fields}
    parsed = tuple(tuple(part for part in path.split("/") if part) for path in paths)
    return RtdbChange(namespace=namespace, paths=parsed, before=Tree(before), after=Tree(after), **values)


@dataclass
class Harness:
    """The services under test, and what the functions recorded."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    restart_on_crash: bool = True
    store: Store = field(default_factory=lambda: Store(None))

    def __post_init__(self) -> None:
        self.thread = LoopThread()
        self.record_file = self.folder / "records.jsonl"
        self.clock = Clock()
        self.plan = FaultPlan()
        self.logged: list[str] = []
        self.thread.call(self._build)

    def _build(self) -> None:
        variables = worker_environment(
            project=PROJECT,
            database_url=f"http://127.0.0.1:9/?ns={NAMESPACE}",
            storage_bucket=f"{PROJECT}.appspot.com",
            hosts={"FIRESTORE_EMULATOR_HOST": "127.0.0.1:9", "FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9"},
            extra={"RECORD_FILE": str(self.record_file), **self.environment},
        )
        self.host = FunctionsHost(
            source=FUNCTIONS_APP,
            project=PROJECT,
            region=REGION,
            environment=variables,
            restart_on_crash=self.restart_on_crash,
            log=self.logged.append,
        )
        self.deliveries = Deliveries(host=self.host, clock=self.clock, plan=self.plan)
        self.dispatcher = Dispatcher(host=self.host, deliveries=self.deliveries, clock=self.clock, project=PROJECT)
        self.schedules = Schedules(
            host=self.host, deliveries=self.deliveries, clock=self.clock, region=REGION, enabled=False
        )
        self.tasks = TasksServer(
            host=self.host,
            deliveries=self.deliveries,
            clock=self.clock,
            store=self.store,
            project=PROJECT,
            region=REGION,
        )
        self.front = FunctionsFront(host=self.host)
        public = self.folder / "site"
        config = {
            "public": "site",
            "ignore": ["**/.*"],
            "rewrites": [
                {"source": "/api/**", "function": {"functionId": "api", "region": REGION}},
                {"source": "/plain", "function": "api"},
                {"source": "/task", "function": "work"},
                {"source": "/app/**", "destination": "/index.html"},
            ],
        }
        public.mkdir(exist_ok=True)
        (self.folder / "firebase.json").write_text(json.dumps({"hosting": config}))
        loaded = hosting.load(self.folder / "firebase.json")
        assert loaded is not None
        self.hosting = Hosting(config=loaded, host=self.host)
        self.hub = Hub(
            services={"functions": "127.0.0.1:5001"},
            plan=self.plan,
            clock=self.clock,
            host=self.host,
            deliveries=self.deliveries,
            schedules=self.schedules,
            busy=[self.tasks.busy],
        )

    def start(self) -> None:
        self.thread.run(self.host.start())
        self.printed_at_start = list(self.logged)
        self.front_url = f"http://{self.thread.run(self.front.start(port=0)).address}"
        self.hosting_url = f"http://{self.thread.run(self.hosting.start(port=0)).address}"
        self.tasks_address = self.thread.run(self.tasks.start(port=0)).address
        self.hub_url = f"http://{self.thread.run(self.hub.start(port=0)).address}"

    def close(self) -> None:
        parts = (self.hub, self.hosting, self.front, self.tasks, self.schedules, self.deliveries, self.host)
        for part in parts:
            self.thread.run(part.stop())
        self.thread.close()

    def reset(self) -> None:
        """Forgets what the last test did."""
        self.thread.call(self.plan.clear)
        self.wait_idle()
        for file in self.folder.iterdir():
            if file.is_file() and file.name != "firebase.json":
                file.unlink()
        self.deliveries.log.clear()
        self.logged.clear()

    def wait_idle(self) -> None:
        assert self.thread.run(self.hub.wait_idle(PATIENCE_SECONDS)), "still busy"

    def change(self, *arguments: Any, **fields: Any) -> None:
        """Commits a change to the Realtime Database."""
        self.thread.call(self.dispatcher.on_rtdb_change, rtdb_change(*arguments, **fields))

    def fault(self, target: str, action: Any, **fields: Any) -> None:
        self.thread.call(self.plan.add, Fault(target, action, **fields))

    def advance(self, seconds: float) -> None:
        self.thread.call(self.clock.advance, seconds)

    def flag(self, name: str) -> None:
        """Tells the fixture app something, by a file beside its records."""
        (self.folder / name).touch()

    def records(self, function: str) -> list[dict[str, Any]]:
        if not self.record_file.exists():
            return []
        lines = self.record_file.read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["function"] == function]

    def log(self, function: str) -> list[Delivery]:
        return [row for row in list(self.deliveries.log) if row.function == function]


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    harness = Harness(tmp_path_factory.mktemp("functions"))
    harness.start()
    yield harness
    harness.close()


@pytest.fixture
def functions(running: Harness) -> Iterator[Harness]:
    """The running app, with nothing in flight, no faults and no records."""
    running.reset()
    yield running
    running.thread.call(running.plan.clear)
