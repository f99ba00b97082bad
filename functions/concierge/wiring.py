"""The composition root: builds what each entry point needs, once a process.

Each builder imports only what its entry points use; nothing else in the package imports lazily, or this module.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import firebase_admin
from firebase_admin import credentials

from concierge.config import Settings, settings

if TYPE_CHECKING:
    from flask import Flask
    from google.cloud import firestore

    from concierge.assistant.dependencies import AssistantDeps
    from concierge.credits.bonus import WelcomeBonus
    from concierge.credits.mirror import BalanceMirror
    from concierge.ledger.service import Ledger
    from concierge.llm.openai_compatible import OpenAICompatibleProvider

_BESIDE_THREADS = 32


class _EmulatorCredential(credentials.Base):  # type: ignore[misc]  # firebase-admin has no types
    """Anonymous: the emulators want no real credentials, and firebase-admin must not go looking for any."""

    def get_credential(self) -> Any:
        from google.auth.credentials import AnonymousCredentials

        return AnonymousCredentials()


def _emulated() -> bool:
    return "FIREBASE_DATABASE_EMULATOR_HOST" in os.environ or "FIRESTORE_EMULATOR_HOST" in os.environ


@lru_cache(maxsize=1)
def firebase_app() -> firebase_admin.App:
    configured = settings()
    return firebase_admin.initialize_app(
        _EmulatorCredential() if _emulated() else None,
        {
            "projectId": configured.google_cloud_project,
            "databaseURL": configured.realtime_database_url,
            "storageBucket": configured.bucket_name,
            "httpTimeout": 15,
        },
        name="concierge",
    )


@lru_cache(maxsize=1)
def firestore_client() -> "firestore.Client":
    from firebase_admin import firestore as admin_firestore

    return admin_firestore.client(firebase_app())


@lru_cache(maxsize=1)
def ledger() -> "Ledger":
    from concierge.ledger.repository import LedgerRepository
    from concierge.ledger.service import Ledger
    from concierge.ledger.signatures import Keyring

    configured = settings()
    return Ledger(
        LedgerRepository(firestore_client()),
        Keyring.from_text(configured.require_signing_key(), configured.ledger_public_keys),
        ledger_id=configured.ledger_name,
        hold_lifetime=timedelta(minutes=configured.reservation_expiry_minutes),
        hold_lifetime_max=timedelta(minutes=configured.reservation_max_minutes),
    )


@lru_cache(maxsize=1)
def bonus() -> "WelcomeBonus":
    from concierge.credits.bonus import WelcomeBonus

    return WelcomeBonus(ledger(), settings().welcome_bonus_microcredits)


@lru_cache(maxsize=1)
def mirror() -> "BalanceMirror":
    from concierge.credits.mirror import BalanceMirror

    return BalanceMirror(firebase_app())


@lru_cache(maxsize=1)
def provider() -> "OpenAICompatibleProvider":
    return build_provider(settings())


def build_provider(configured: Settings) -> "OpenAICompatibleProvider":
    """Raises Configuration if no provider is configured."""
    from concierge.llm.openai_compatible import OpenAICompatibleProvider

    configured.require_provider()
    return OpenAICompatibleProvider(
        base_url=configured.ai_platform_base_url,
        api_key=configured.ai_platform_api_key.get_secret_value(),
        connect_timeout_seconds=configured.provider_connect_timeout_seconds,
        silence_timeout_seconds=configured.provider_silence_timeout_seconds,
    )


@lru_cache(maxsize=1)
def assistant() -> "AssistantDeps":
    from concierge.assistant.dependencies import AssistantDeps
    from concierge.assistant.repository import Responses
    from concierge.models.catalogue import load_catalogue

    configured = settings()
    catalogue = load_catalogue(configured.model_catalogue_file)
    return AssistantDeps(
        settings=configured,
        ledger=ledger(),
        bonus=bonus(),
        mirror=mirror(),
        responses=Responses(firebase_app()),
        catalogue=catalogue,
        provider=provider,
        beside=ThreadPoolExecutor(_BESIDE_THREADS, thread_name_prefix="beside"),
        default_model=configured.ai_platform_chat_model or catalogue.default_chat_model,
        now_ms=lambda: time.time_ns() // 1_000_000,
    )


@lru_cache(maxsize=1)
def api() -> "Flask":
    from concierge.api.app import create_app
    from concierge.api.context import ApiDeps

    return create_app(ApiDeps(firebase_app(), ledger()))
