"""Fixtures for tests that drive the whole backend: one stack and one scripted provider for each test process."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import settings
from support.backend import CHECKPOINT_KEY, IDENTITY_KEY, SIGNING_KEY, Backend
from support.provider import ScriptedProvider

from cli.stack import Stack
from concierge.api.app import create_app
from concierge.api.context import ApiDeps

# A machine may be slow; a property is not wrong for that.
settings.register_profile("concierge", deadline=None)
settings.load_profile("concierge")

_LIMITS = {"kind": "chat", "context_tokens": 200_000, "output_tokens_max": 4_000}
CATALOGUE = {
    "default_chat_model": "scripted",
    "models": [
        {**_LIMITS, "id": "scripted", "input_microcredits_per_token": 10, "output_microcredits_per_token": 40},
        {**_LIMITS, "id": "no-price"},
        {**_LIMITS, "id": "zero-price", "input_microcredits_per_token": 0, "output_microcredits_per_token": 0},
        {
            **_LIMITS,
            "id": "caching",
            "input_microcredits_per_token": 10,
            "output_microcredits_per_token": 40,
            "cached_input_microcredits_per_token": 3,
        },
        {
            **_LIMITS,
            "id": "dear",
            "input_microcredits_per_token": 1000,
            "output_microcredits_per_token": 4000,
            "fallbacks": ["scripted"],
        },
    ],
}


@pytest.fixture(scope="session")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider().running() as running:
        yield running


@contextmanager
def running_backend(provider: ScriptedProvider, folder: Path) -> Iterator[Backend]:
    catalogue = folder / "catalogue.json"
    catalogue.write_text(json.dumps(CATALOGUE))
    with (
        (folder / "stack.log").open("w") as log,
        Stack.start(environment=environment(provider, catalogue), log=log) as stack,
    ):
        backend = Backend(stack, folder)
        yield backend
        backend.close()


@pytest.fixture(scope="session")
def shared_backend(provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with running_backend(provider, tmp_path_factory.mktemp("stack")) as backend:
        yield backend


@pytest.fixture(scope="module")
def own_backend(provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A stack for one file of tests, which count or damage what would otherwise be shared."""
    with running_backend(provider, tmp_path_factory.mktemp("stack")) as backend:
        yield backend


def environment(provider: ScriptedProvider, catalogue: Path) -> dict[str, str]:
    """The functions' settings in tests: short leases, so that a sweep finds at once what a crash left behind."""
    return {
        "AI_PLATFORM_BASE_URL": provider.base_url,
        "AI_PLATFORM_API_KEY": "test-key",
        "AI_PLATFORM_CHAT_MODEL": "",
        "MODEL_CATALOGUE_FILE": str(catalogue),
        "LEDGER_SIGNING_KEY": SIGNING_KEY,
        "CHECKPOINT_SIGNING_KEY": CHECKPOINT_KEY,
        "IDENTITY_HASH_KEY": IDENTITY_KEY,
        # One test signs up many people of one domain.
        "BONUS_DOMAIN_LIMIT": "1000000",
        # Tests stand where Google's front end does, before the embedded one.
        "TRUSTED_PROXIES": "2",
        "REQUEST_LEASE_SECONDS": "0.8",
        "LOST_REQUEST_SECONDS": "0",
        "CHUNK_RETENTION_SECONDS": "0",
    }


@pytest.fixture
def backend(shared_backend: Backend) -> Iterator[Backend]:
    """The stack, without faults of an earlier test and with its functions running."""
    yield shared_backend
    shared_backend.clear_faults()
    shared_backend.close_clients()


@pytest.fixture(scope="session")
def routes() -> list[tuple[str, str]]:
    """Every (method, path below /api/v1) that the API answers, as Flask knows them."""
    rules = create_app(cast(ApiDeps, None)).url_map.iter_rules()
    return sorted(
        (method, rule.rule.removeprefix("/api/v1"))
        for rule in rules
        if rule.endpoint != "static"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    )


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """The golden vectors; `stored` are the entries' Firestore documents."""
    vectors: dict[str, Any] = json.loads((Path(__file__).parent / "fixtures" / "ledger_v1.json").read_text())
    vectors["stored"] = [
        {**entry, "content": entry["content"].encode(), "signature": base64.b64decode(entry["signature"])}
        for entry in vectors["entries"]
    ]
    return vectors
