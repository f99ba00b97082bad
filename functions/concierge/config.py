"""Settings: read once from the environment, checked, frozen. .env.example explains each.

Secrets (`*_KEY`) are declared in main.py as parameters of the deploy, which binds them to the functions' environment.
"""

from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from concierge.errors import Configuration
from concierge.kit.keys import decode_key
from concierge.kit.microcredits import from_credits

# Heartbeats come four times a lease, at the turns at which chunks are written.
_FLUSHES_PER_LEASE = 8

Credits = Annotated[Decimal, Field(ge=0, max_digits=16, decimal_places=6)]


class Settings(BaseSettings):
    """All settings of the functions. Field names are the variables' names in lower case; units come last."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    # The platform sets GCLOUD_PROJECT and FIREBASE_CONFIG; other Google tools go by GOOGLE_CLOUD_PROJECT.
    google_cloud_project: str = Field(
        min_length=1, validation_alias=AliasChoices("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT")
    )
    firebase_config: dict[str, Any] = {}
    database_url: str = ""
    storage_bucket: str = ""

    ai_platform_api_key: SecretStr = SecretStr("")
    ai_platform_base_url: str = ""
    ai_platform_chat_model: str = ""
    model_catalogue_file: Path | None = None
    provider_connect_timeout_seconds: float = Field(default=5, gt=0, le=60)
    provider_silence_timeout_seconds: float = Field(default=30, gt=0, le=300)
    provider_attempts: int = Field(default=3, ge=1, le=10)

    ledger_id: str = ""
    ledger_signing_key: SecretStr = SecretStr("")
    ledger_public_keys: Annotated[tuple[str, ...], NoDecode] = ()
    checkpoint_signing_key: SecretStr = SecretStr("")
    checkpoint_public_keys: Annotated[tuple[str, ...], NoDecode] = ()
    identity_hash_key: SecretStr = SecretStr("")
    reservation_expiry_minutes: float = Field(default=10, gt=0, le=1440)
    reservation_max_minutes: float = Field(default=1440, gt=0, le=10_080)
    max_reservation_amount: Credits = Decimal(500)
    validation_rotation_documents: int = Field(default=20_000, ge=0, le=10_000_000)
    validation_quarantine_max: int = Field(default=20, ge=0)
    anomaly_credit_amount: Credits = Decimal(10_000)
    anomaly_adjustments_per_day: int = Field(default=5, ge=0)
    anomaly_credits_per_day: int = Field(default=10, ge=0)
    anomaly_burn_factor: int = Field(default=20, ge=1)
    anomaly_burn_amount: Credits = Decimal(1000)
    anomaly_hold_overdue_minutes: float = Field(default=30, ge=0, le=10_080)
    mirror_conflict_strategy: Literal["authoritative-wins", "newest-seq", "manual-review"] = "authoritative-wins"
    welcome_bonus_amount: Credits = Decimal(1000)
    bonus_network_limit: int = Field(default=5, ge=1)
    bonus_domain_limit: int = Field(default=20, ge=1)
    bonus_withhold_score: int = Field(default=100, ge=1)
    bonus_requires_verified_email: bool = False
    bonus_requires_network: bool = False
    low_balance_threshold: Credits = Decimal(50)
    top_up_step: Annotated[Credits, Field(gt=0)] = Decimal(500)
    trusted_proxies: int = Field(default=1, ge=0, le=10)

    request_deadline_seconds: float = Field(default=120, gt=0, le=500)
    request_lease_seconds: float = Field(default=60, gt=0, le=600)
    lost_request_seconds: float = Field(default=20, ge=0, le=600)
    max_output_tokens: int = Field(default=1024, ge=1, le=200_000)
    min_output_tokens: int = Field(default=64, ge=1, le=1024)
    stream_flush_milliseconds: int = Field(default=100, ge=20, le=1000)
    chunk_retention_seconds: float = Field(default=600, ge=0, le=86_400)

    @field_validator("ledger_public_keys", "checkpoint_public_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("ledger_public_keys", "checkpoint_public_keys")
    @classmethod
    def _public_keys_are_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for key in value:
            decode_key(key)
        return value

    @field_validator("ledger_signing_key", "checkpoint_signing_key", "identity_hash_key")
    @classmethod
    def _secret_is_a_key(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            decode_key(value.get_secret_value())
        return value

    @field_validator("ai_platform_base_url")
    @classmethod
    def _base_url_is_http(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("model_catalogue_file", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or None

    @model_validator(mode="after")
    def _limits_agree(self) -> Self:
        if self.min_output_tokens > self.max_output_tokens:
            raise Configuration("MIN_OUTPUT_TOKENS", "must not exceed MAX_OUTPUT_TOKENS")
        if self.reservation_expiry_minutes * 60 <= self.request_deadline_seconds:
            raise Configuration(
                "RESERVATION_EXPIRY_MINUTES", "holds would expire before REQUEST_DEADLINE_SECONDS is over"
            )
        keys = (self.ledger_signing_key, self.checkpoint_signing_key, self.identity_hash_key)
        used = [key.get_secret_value() for key in keys if key.get_secret_value()]
        if len(set(used)) < len(used):
            raise Configuration(
                "CHECKPOINT_SIGNING_KEY", "LEDGER_SIGNING_KEY, CHECKPOINT_SIGNING_KEY and IDENTITY_HASH_KEY must differ"
            )
        if self.reservation_max_minutes < self.reservation_expiry_minutes:
            raise Configuration("RESERVATION_MAX_MINUTES", "must not be less than RESERVATION_EXPIRY_MINUTES")
        if self.request_lease_seconds * 1000 < _FLUSHES_PER_LEASE * self.stream_flush_milliseconds:
            raise Configuration("REQUEST_LEASE_SECONDS", "live runs would be taken for dead between two writes")
        return self

    @property
    def welcome_bonus_microcredits(self) -> int:
        return from_credits(self.welcome_bonus_amount)

    @property
    def low_balance_threshold_microcredits(self) -> int:
        return from_credits(self.low_balance_threshold)

    @property
    def top_up_step_microcredits(self) -> int:
        return from_credits(self.top_up_step)

    @property
    def max_reservation_microcredits(self) -> int:
        return from_credits(self.max_reservation_amount)

    @property
    def ledger_name(self) -> str:
        """What entries call their ledger: the project, unless set."""
        return self.ledger_id or self.google_cloud_project

    @property
    def realtime_database_url(self) -> str:
        deployed = self.firebase_config.get("databaseURL")
        return self.database_url or deployed or f"https://{self.google_cloud_project}-default-rtdb.firebaseio.com"

    @property
    def bucket_name(self) -> str:
        """The Cloud Storage bucket of checkpoints, backups and reports."""
        deployed = self.firebase_config.get("storageBucket")
        return self.storage_bucket or deployed or f"{self.google_cloud_project}.appspot.com"

    def require_provider(self) -> None:
        """Raises Configuration, naming the variable, unless a model provider is configured."""
        if not self.ai_platform_base_url:
            raise Configuration("AI_PLATFORM_BASE_URL", "the base URL of an OpenAI-compatible server is missing")
        if not self.ai_platform_api_key.get_secret_value():
            raise Configuration("AI_PLATFORM_API_KEY", "the provider's API key is missing")

    def require_signing_key(self) -> str:
        """The ledger's signing key. Raises Configuration if it is not set."""
        return _required(self.ledger_signing_key, "LEDGER_SIGNING_KEY", "the ledger's signing key")

    def require_checkpoint_key(self) -> str:
        """The key that signs checkpoints. Raises Configuration if it is not set."""
        return _required(self.checkpoint_signing_key, "CHECKPOINT_SIGNING_KEY", "the key that signs checkpoints")

    def require_identity_key(self) -> str:
        """The key under which personal data is hashed. Raises Configuration if it is not set."""
        return _required(self.identity_hash_key, "IDENTITY_HASH_KEY", "the key under which personal data is hashed")


def _required(secret: SecretStr, variable: str, what: str) -> str:
    if not secret.get_secret_value():
        raise Configuration(variable, f"{what} (32 bytes in base64) is missing")
    return secret.get_secret_value()


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process. Raises Configuration naming the first variable that is wrong."""
    return load_settings()


def load_settings() -> Settings:
    """Reads the environment afresh."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        variable = "_".join(str(part) for part in first["loc"][:1]).upper() or "settings"
        raise Configuration(variable, first["msg"]) from None
