"""`concierge doctor`: is everything set, and does everything answer? Names the variable for whatever does not."""

from collections.abc import Callable
from dataclasses import dataclass

from google.api_core import exceptions as google_exceptions
from google.auth import exceptions as auth_exceptions

from concierge import wiring
from concierge.config import Settings, load_settings
from concierge.errors import Configuration
from concierge.llm.openai_compatible import ProviderFault
from concierge.models.catalogue import load_catalogue


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, whether it is well, and what to do if not."""

    name: str
    well: bool
    detail: str


def run() -> int:
    """Prints a line for each check; 0 if all is well."""
    checks = diagnose()
    for check in checks:
        print(f"{'ok  ' if check.well else 'FAIL'}  {check.name:<18} {check.detail}")
    return 0 if all(check.well for check in checks) else 1


def require_startable() -> None:
    """For the start of a stack. Raises Configuration naming the first variable that is wrong.

    No provider at all is well: the embedded Firebase brings an offline model. Half a provider is not.
    """
    configured = load_settings()
    if configured.ai_platform_base_url or configured.ai_platform_api_key.get_secret_value():
        configured.require_provider()
    load_catalogue(configured.model_catalogue_file)


def choose_model() -> str | None:
    """For the start of a stack with a provider but no AI_PLATFORM_CHAT_MODEL: a priced model that the provider offers.

    The default where it is offered, else the first of the catalogue; None if the provider does not say what it offers,
    or offers nothing that has a price. Then the default is tried.
    """
    configured = load_settings()
    if not configured.ai_platform_base_url or configured.ai_platform_chat_model:
        return None
    catalogue = load_catalogue(configured.model_catalogue_file)
    try:
        offered = set(wiring.build_provider(configured).model_ids())
    except ProviderFault:
        return None
    candidates = [catalogue.default_chat_model, *catalogue.ids()]
    return next((model for model in candidates if model in offered), None)


def diagnose() -> list[Check]:
    """Stops at settings that cannot be read; otherwise every check is made."""
    settings_check, configured = _settings()
    if configured is None:
        return [settings_check]
    return [
        settings_check,
        _guarded("ledger keys", lambda: _signing(configured)),
        _guarded("model catalogue", lambda: _catalogue(configured)),
        _guarded("limits", lambda: _limits(configured)),
        _guarded("provider", lambda: _provider(configured)),
        _guarded("firestore", _firestore),
    ]


def _settings() -> tuple[Check, Settings | None]:
    try:
        configured = load_settings()
    except Configuration as error:
        return Check("settings", False, error.message), None
    return Check("settings", True, f"project {configured.google_cloud_project}"), configured


def _guarded(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except Configuration as error:
        return Check(name, False, error.message)
    except ProviderFault as error:
        return Check(name, False, f"AI_PLATFORM_BASE_URL: the provider does not answer ({error})")
    except (google_exceptions.GoogleAPICallError, auth_exceptions.GoogleAuthError) as error:
        return Check(name, False, f"GOOGLE_CLOUD_PROJECT: {type(error).__name__}: {error}"[:300])


def _signing(configured: Settings) -> str:
    from concierge.ledger.signatures import Keyring

    keyring = Keyring.from_text(configured.require_signing_key(), configured.ledger_public_keys)
    configured.require_checkpoint_key()
    configured.require_identity_key()
    return f"signs as {keyring.signing_key_id}; {len(keyring.published())} keys verify"


def _catalogue(configured: Settings) -> str:
    catalogue = load_catalogue(configured.model_catalogue_file)
    model = configured.ai_platform_chat_model or catalogue.default_chat_model
    if model not in catalogue.ids():
        raise Configuration("AI_PLATFORM_CHAT_MODEL", f"{model} has no price in the catalogue")
    price = catalogue.price(model)
    return f"{model} at {price.input} in, {price.output} out (microcredits a token)"


def _limits(configured: Settings) -> str:
    if configured.request_deadline_seconds <= configured.provider_silence_timeout_seconds:
        raise Configuration("PROVIDER_SILENCE_TIMEOUT_SECONDS", "must be shorter than REQUEST_DEADLINE_SECONDS")
    return (
        f"holds live {configured.reservation_expiry_minutes:g} min, requests {configured.request_deadline_seconds:g} s"
    )


def _provider(configured: Settings) -> str:
    offered = wiring.build_provider(configured).model_ids()
    model = configured.ai_platform_chat_model or load_catalogue(configured.model_catalogue_file).default_chat_model
    if model not in offered:
        raise Configuration("AI_PLATFORM_CHAT_MODEL", f"the provider does not offer {model}; it has {offered[:5]}")
    return f"{configured.ai_platform_base_url} offers {model}"


def _firestore() -> str:
    client = wiring.firestore_client()
    client.collection("accounts").document("doctor").get(timeout=10)
    return f"project {client.project} answers"
