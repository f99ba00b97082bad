"""The composition root: builds what each entry point needs, once a process.

Each builder imports only what its entry points use; nothing else in the package imports lazily, or this module.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import firebase_admin
from firebase_admin import credentials

from concierge.config import Settings, settings

if TYPE_CHECKING:
    from flask import Flask
    from google.cloud import firestore

    from concierge.assistant.dependencies import AssistantDeps
    from concierge.assistant.estimate import Estimate
    from concierge.credits.bonus.people import People
    from concierge.credits.bonus.repository import BonusRepository
    from concierge.credits.bonus.reviews import BonusReviews
    from concierge.credits.bonus.service import WelcomeBonus
    from concierge.credits.exports.service import AccountExports
    from concierge.credits.low_balance.service import LowBalance
    from concierge.credits.mirror import BalanceMirror
    from concierge.credits.usage.reconciler import Reconciler
    from concierge.credits.usage.rollup import UsageRollup
    from concierge.credits.usage.service import Usage
    from concierge.kit.objects import ObjectStore
    from concierge.ledger.audit import Auditor
    from concierge.ledger.changes import ChangeFeed
    from concierge.ledger.checkpoints.notes import Verifier
    from concierge.ledger.checkpoints.publisher import CheckpointPublisher
    from concierge.ledger.checkpoints.service import Checkpoints
    from concierge.ledger.integrity.alerts import Alert
    from concierge.ledger.integrity.service import Integrity
    from concierge.ledger.service import Ledger
    from concierge.llm.openai_compatible import OpenAICompatibleProvider
    from concierge.models.catalogue import Catalogue
    from concierge.orchestration.events import EventBus

Built = TypeVar("Built")

_BESIDE_THREADS = 32


class _EmulatorCredential(credentials.Base):  # type: ignore[misc]  # firebase-admin has no types
    """Anonymous: the emulators want no real credentials, and firebase-admin must not go looking for any."""

    def get_credential(self) -> Any:
        from google.auth.credentials import AnonymousCredentials

        return AnonymousCredentials()


def _emulated() -> bool:
    return "FIREBASE_DATABASE_EMULATOR_HOST" in os.environ or "FIRESTORE_EMULATOR_HOST" in os.environ


def once(build: Callable[[], Built]) -> Callable[[], Built]:
    """Builds at the first call, and only then. The first events of a cold instance come together, on several threads,
    and what is registered under a name, as the app is, cannot be built twice."""
    lock, built = threading.Lock(), list[Built]()

    @wraps(build)
    def get() -> Built:
        if not built:
            with lock:
                if not built:
                    built.append(build())
        return built[0]

    return get


@once
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
def objects() -> "ObjectStore":
    """The bucket of checkpoints, backups and reports."""
    from firebase_admin import storage

    from concierge.kit.objects import ObjectStore

    return ObjectStore(storage.bucket(app=firebase_app()))


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
def checkpoints() -> "Checkpoints":
    from concierge.ledger.checkpoints.notes import Signer
    from concierge.ledger.checkpoints.receipts import origin_of
    from concierge.ledger.checkpoints.repository import CheckpointRepository
    from concierge.ledger.checkpoints.service import Checkpoints

    configured = settings()
    signer = Signer(origin_of(configured.ledger_name), configured.require_checkpoint_key())
    verifiers = [signer.verifier, *_retired_checkpoint_keys(configured)]
    return Checkpoints(CheckpointRepository(firestore_client()), ledger(), objects, verifiers)


@lru_cache(maxsize=1)
def checkpoint_publisher() -> "CheckpointPublisher":
    from concierge.ledger.changes import ChangeFeed
    from concierge.ledger.checkpoints.notes import Signer
    from concierge.ledger.checkpoints.publisher import CheckpointPublisher
    from concierge.ledger.checkpoints.receipts import origin_of
    from concierge.ledger.checkpoints.repository import CheckpointRepository

    configured = settings()
    return CheckpointPublisher(
        ChangeFeed(firestore_client()),
        CheckpointRepository(firestore_client()),
        objects(),
        Signer(origin_of(configured.ledger_name), configured.require_checkpoint_key()),
        _retired_checkpoint_keys(configured),
        ledger_id=configured.ledger_name,
    )


def _retired_checkpoint_keys(configured: Settings) -> "list[Verifier]":
    from concierge.ledger.checkpoints.notes import Verifier
    from concierge.ledger.checkpoints.receipts import origin_of

    origin = origin_of(configured.ledger_name)
    return [Verifier.from_key(origin, key) for key in configured.checkpoint_public_keys]


@lru_cache(maxsize=1)
def bonus() -> "WelcomeBonus":
    from concierge.credits.bonus.scoring import Policy
    from concierge.credits.bonus.service import WelcomeBonus

    configured = settings()
    policy = Policy(
        network_limit=configured.bonus_network_limit,
        domain_limit=configured.bonus_domain_limit,
        withhold_at=configured.bonus_withhold_score,
        requires_verified_email=configured.bonus_requires_verified_email,
        requires_network=configured.bonus_requires_network,
    )
    return WelcomeBonus(
        ledger(), people, _bonus_repository(), mirror(), policy, amount=configured.welcome_bonus_microcredits
    )


@lru_cache(maxsize=1)
def bonus_reviews() -> "BonusReviews":
    from concierge.credits.bonus.reviews import BonusReviews

    return BonusReviews(bonus(), people, _bonus_repository())


@lru_cache(maxsize=1)
def people() -> "People":
    from concierge.credits.bonus.identity import IdentityHasher
    from concierge.credits.bonus.people import People

    return People(firebase_app(), IdentityHasher(settings().require_identity_key()))


@lru_cache(maxsize=1)
def _bonus_repository() -> "BonusRepository":
    from concierge.credits.bonus.repository import BonusRepository

    return BonusRepository(firestore_client())


@lru_cache(maxsize=1)
def mirror() -> "BalanceMirror":
    from concierge.credits.mirror import BalanceMirror
    from concierge.ledger.repository import LedgerRepository

    # Not the ledger itself: who mirrors balances signs nothing, and is not given the key.
    find_head = LedgerRepository(firestore_client()).head
    return BalanceMirror(firebase_app(), find_head, settings().mirror_conflict_strategy)


def anchors(uid: str) -> dict[int, str]:
    """What checkpoints have published of an account. Whoever verifies signs none, and needs no key of theirs."""
    from concierge.ledger.checkpoints.repository import CheckpointRepository

    return CheckpointRepository(firestore_client()).anchors(uid)


@lru_cache(maxsize=1)
def auditor() -> "Auditor":
    from concierge.ledger.audit import Auditor

    return Auditor(ledger(), anchors)


@lru_cache(maxsize=1)
def exports() -> "AccountExports":
    from concierge.credits.exports import sections
    from concierge.credits.exports.service import AccountExports

    return AccountExports(
        ledger(),
        lambda: checkpoints().vkeys,
        sections=[
            sections.published(checkpoints()),
            sections.mirror(mirror()),
            sections.bonus_claims(_bonus_repository()),
            sections.bonus_review(_bonus_repository(), internal=False),
            ("usage", usage().export),
            ("lowBalance", low_balance().export),
        ],
        internal=[sections.bonus_review(_bonus_repository(), internal=True)],
    )


@lru_cache(maxsize=1)
def change_feed() -> "ChangeFeed":
    from concierge.ledger.changes import ChangeFeed

    return ChangeFeed(firestore_client())


@lru_cache(maxsize=1)
def events() -> "EventBus":
    from concierge.orchestration.events import EventBus

    return EventBus(firebase_app())


@lru_cache(maxsize=1)
def usage() -> "Usage":
    from concierge.credits.usage.repository import UsageRepository
    from concierge.credits.usage.service import Usage

    return Usage(UsageRepository(firestore_client()), _reconciler())


@lru_cache(maxsize=1)
def usage_rollup() -> "UsageRollup":
    from concierge.credits.usage.repository import UsageRepository
    from concierge.credits.usage.rollup import UsageRollup

    return UsageRollup(UsageRepository(firestore_client()), change_feed(), _reconciler())


def _reconciler() -> "Reconciler":
    from concierge.credits.usage.reconciler import Reconciler
    from concierge.credits.usage.repository import UsageRepository
    from concierge.ledger.repository import LedgerRepository

    return Reconciler(UsageRepository(firestore_client()), LedgerRepository(firestore_client()))


@lru_cache(maxsize=1)
def low_balance() -> "LowBalance":
    from concierge.credits.low_balance.service import LowBalance

    configured = settings()
    return LowBalance(
        firebase_app(),
        events(),
        lambda uid: (usage().daily_costs(uid), usage().today()),
        threshold=configured.low_balance_threshold_microcredits,
        step=configured.top_up_step_microcredits,
    )


@lru_cache(maxsize=1)
def integrity() -> "Integrity":
    from concierge.kit.microcredits import from_credits
    from concierge.ledger.integrity.anomalies import Thresholds
    from concierge.ledger.integrity.service import Integrity
    from concierge.ledger.integrity.validation import Policy
    from concierge.ledger.signatures import Keyring

    configured = settings()
    thresholds = Thresholds(
        credit_max=from_credits(configured.anomaly_credit_amount),
        adjustments_max=configured.anomaly_adjustments_per_day,
        credits_max=configured.anomaly_credits_per_day,
        burn_factor=configured.anomaly_burn_factor,
        burn_min=from_credits(configured.anomaly_burn_amount),
    )
    policy = Policy(
        thresholds,
        rotation_documents=configured.validation_rotation_documents,
        quarantine_max=configured.validation_quarantine_max,
        overdue=timedelta(minutes=configured.anomaly_hold_overdue_minutes),
    )
    return Integrity(
        firestore_client(),
        Keyring.from_text(configured.require_signing_key(), configured.ledger_public_keys),
        policy,
        ledger_id=configured.ledger_name,
        objects=objects,
        shown=mirror().shown,
        sync_mirror=lambda uid: mirror().sync(uid, "authoritative-wins"),
        publish=_publish_alert,
    )


def _publish_alert(event_id: str, alert: "Alert") -> None:
    from concierge.orchestration.events import Event
    from concierge.orchestration.topics import IntegrityAlert

    payload = IntegrityAlert(
        code=alert.code, severity=alert.severity, uid=alert.uid, seq=alert.seq or None, message=alert.message
    )
    events().publish(Event(event_id, "integrity.alert", alert.uid or "ledger", payload))


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
    from concierge.credits.usage.recorder import UsageRecorder

    configured = settings()
    catalogue = _catalogue()
    return AssistantDeps(
        settings=configured,
        ledger=ledger(),
        bonus=bonus(),
        mirror=mirror(),
        usage=UsageRecorder(firestore_client()),
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

    return create_app(
        ApiDeps(
            firebase_app=firebase_app(),
            settings=settings(),
            ledger=ledger(),
            checkpoints=checkpoints(),
            firestore=firestore_client,
            bonus=bonus,
            bonus_reviews=bonus_reviews,
            mirror=mirror,
            exports=exports,
            auditor=auditor,
            usage=usage,
            low_balance=low_balance,
            estimate=_estimate,
            integrity=integrity,
        )
    )


def _estimate(raw: dict[str, Any]) -> "Estimate":
    from concierge.assistant.estimate import estimate

    catalogue = _catalogue()
    return estimate(settings(), catalogue, settings().ai_platform_chat_model or catalogue.default_chat_model, raw)


@lru_cache(maxsize=1)
def _catalogue() -> "Catalogue":
    from concierge.models.catalogue import load_catalogue

    return load_catalogue(settings().model_catalogue_file)
