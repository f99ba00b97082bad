"""All embedded services together: one process, one event loop, and the functions in a process of their own."""

import base64
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from emulator.auth import AuthServer
from emulator.clock import Clock
from emulator.faults import FaultPlan
from emulator.firestore import FirestoreServer
from emulator.firestore.indexes import Indexes
from emulator.models import ModelServer
from emulator.persistence import Store
from emulator.rtdb import RtdbServer
from emulator.storage import StorageServer
from emulator.tasks.server import TasksServer
from emulator.triggers import hosting
from emulator.triggers.deliveries import Deliveries
from emulator.triggers.dispatch import Dispatcher
from emulator.triggers.front import FunctionsFront
from emulator.triggers.host import FunctionsHost, worker_environment
from emulator.triggers.hosting import Hosting
from emulator.triggers.hub import Hub
from emulator.triggers.schedules import Schedules

HOST = "127.0.0.1"
OFFICIAL_PORTS: Mapping[str, int] = {
    "auth": 9099,
    "database": 9000,
    "firestore": 8080,
    "functions": 5001,
    "hosting": 5000,
    "hub": 4400,
    "models": 9299,
    "storage": 9199,
    "tasks": 9499,
}
OFFLINE_MODEL = "concierge-offline-small"
_KEYS = "keys"
_SECRET_KEYS = ("LEDGER_SIGNING_KEY", "CHECKPOINT_SIGNING_KEY", "IDENTITY_HASH_KEY")


class _Stoppable(Protocol):
    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """`ports` by service; a service that is missing there gets a free one. `source` is the functions' folder, beside
    which the rules and firebase.json lie. Without `data` everything is in memory."""

    source: Path
    project: str = "demo-concierge"
    region: str = "us-central1"
    ports: Mapping[str, int] = field(default_factory=dict)
    data: Path | None = None
    schedules: bool = False


class Suite:
    """Start it, use it, stop it; all on one event loop."""

    def __init__(self, options: SuiteOptions, environment: Mapping[str, str] = os.environ) -> None:
        self.options = options
        self.services: dict[str, str] = {}
        self._environment = environment
        root = options.source.resolve().parent
        self._clock = Clock()
        self._store = Store(options.data)
        self._faults = FaultPlan()
        self._auth = AuthServer(project_id=options.project, clock=self._clock, store=self._store)
        rules = root / "database.rules.json"
        self._rtdb = RtdbServer(
            project_id=options.project,
            clock=self._clock,
            store=self._store,
            faults=self._faults,
            verify_token=self._auth.tokens.verify,
            rules_text=rules.read_text(encoding="utf-8") if rules.exists() else None,
        )
        self._firestore = FirestoreServer(
            clock=self._clock,
            store=self._store,
            faults=self._faults,
            indexes=Indexes.load(root / "firestore.indexes.json"),
        )
        self._storage = StorageServer(
            project_id=options.project, clock=self._clock, store=self._store, faults=self._faults
        )
        self._models: ModelServer | None = None
        if not environment.get("AI_PLATFORM_BASE_URL"):
            self._models = ModelServer(clock=self._clock, faults=self._faults)
        self._hosting_config = hosting.load(root / "firebase.json")
        self._running: list[_Stoppable] = []

    @property
    def namespace(self) -> str:
        """The default database instance."""
        return f"{self.options.project}-default-rtdb"

    @property
    def model_description(self) -> str:
        """Which model answers, for people."""
        return OFFLINE_MODEL + " (offline)" if self._models else self._environment["AI_PLATFORM_BASE_URL"]

    async def start(self) -> None:
        """Binds every service, then loads the functions. Raises OSError for a taken port, FunctionsLoadError."""
        ports = self.options.ports
        for name, server in (
            ("auth", self._auth),
            ("database", self._rtdb),
            ("storage", self._storage),
            ("models", self._models),
        ):
            if server is not None:
                self._running.append(server)
                self.services[name] = (await server.start(HOST, ports.get(name, 0))).address
        self._running.append(self._firestore)
        self.services["firestore"] = f"{HOST}:{await self._firestore.start(HOST, ports.get('firestore', 0))}"
        await self._start_functions()

    async def _start_functions(self) -> None:
        options, ports = self.options, self.options.ports
        # Filled in below: the functions must know the address of the task queues, which dispatch to the functions.
        environment: dict[str, str] = {}
        host = FunctionsHost(
            source=options.source, project=options.project, region=options.region, environment=environment
        )
        deliveries = Deliveries(host=host, clock=self._clock, plan=self._faults)
        schedules = Schedules(
            host=host, deliveries=deliveries, clock=self._clock, region=options.region, enabled=options.schedules
        )
        tasks = TasksServer(
            host=host,
            deliveries=deliveries,
            clock=self._clock,
            store=self._store,
            project=options.project,
            region=options.region,
        )
        front = FunctionsFront(host=host)
        hub = Hub(
            services=self.services,
            plan=self._faults,
            clock=self._clock,
            host=host,
            deliveries=deliveries,
            schedules=schedules,
            busy=(tasks.busy,),
        )
        self._running += [deliveries, schedules, tasks, front, hub]
        for name, server in (("tasks", tasks), ("functions", front), ("hub", hub)):
            self.services[name] = (await server.start(HOST, ports.get(name, 0))).address
        if self._hosting_config is not None:
            site = Hosting(config=self._hosting_config, host=host)
            self._running.append(site)
            self.services["hosting"] = (await site.start(HOST, ports.get("hosting", 0))).address
        environment.update(self._functions_environment())
        dispatcher = Dispatcher(
            host=host, deliveries=deliveries, clock=self._clock, project=options.project, location=options.region
        )
        self._rtdb.listeners.append(dispatcher.on_rtdb_change)
        self._firestore.listeners.append(dispatcher.on_firestore_change)
        self._running.append(host)
        await host.start()

    async def stop(self) -> None:
        """Stops everything in the reverse order of its start; what was committed is in the store."""
        for server in reversed(self._running):
            await server.stop()
        self._running.clear()
        self._store.close()

    def sdk_environment(self) -> dict[str, str]:
        """What an official SDK needs to find these services."""
        return {
            "FIREBASE_AUTH_EMULATOR_HOST": self.services["auth"],
            "FIREBASE_DATABASE_EMULATOR_HOST": self.services["database"],
            "FIRESTORE_EMULATOR_HOST": self.services["firestore"],
            # Firebase's SDKs take the one, Google's the other.
            "FIREBASE_STORAGE_EMULATOR_HOST": self.services["storage"],
            "STORAGE_EMULATOR_HOST": f"http://{self.services['storage']}",
            "CLOUD_TASKS_EMULATOR_HOST": self.services["tasks"],
            "FIREBASE_EMULATOR_HUB": self.services["hub"],
            "GCLOUD_PROJECT": self.options.project,
            "GOOGLE_CLOUD_PROJECT": self.options.project,
        }

    def _functions_environment(self) -> dict[str, str]:
        environment = worker_environment(
            project=self.options.project,
            database_url=f"https://{self.namespace}.firebaseio.com",
            storage_bucket=self._storage.default_bucket,
            hosts=self.sdk_environment(),
        )
        if self._models is not None:
            environment["AI_PLATFORM_BASE_URL"] = f"http://{self.services['models']}/v1"
            environment["AI_PLATFORM_API_KEY"] = "offline"
            environment["AI_PLATFORM_CHAT_MODEL"] = OFFLINE_MODEL
        for variable in _SECRET_KEYS:
            if not self._environment.get(variable):
                environment[variable] = self._secret_key(variable)
        return environment

    def _secret_key(self, variable: str) -> str:
        """A key for this developer's machine, which must outlive restarts if what it signed or hashed does."""
        name = variable.lower().replace("_", "-")
        kept = dict(self._store.rows(_KEYS)).get(name)
        if kept is None:
            kept = base64.b64encode(secrets.token_bytes(32))
            self._store.write(_KEYS, {name: kept})
        return kept.decode()
