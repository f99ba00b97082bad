"""Settings: what is wrong is named, and a secret never shows."""

import base64
from pathlib import Path

import pytest

from concierge.config import Settings, load_settings
from concierge.errors import Configuration

KEY = base64.b64encode(bytes(32)).decode()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("GCLOUD_PROJECT", raising=False)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "demo-concierge")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WELCOME_BONUS_AMOUNT", "-1"),
        ("WELCOME_BONUS_AMOUNT", "0.0000001"),
        ("RESERVATION_EXPIRY_MINUTES", "0"),
        ("RESERVATION_EXPIRY_MINUTES", "soon"),
        ("LEDGER_SIGNING_KEY", "not a key"),
        ("LEDGER_PUBLIC_KEYS", f"{KEY},c2hvcnQ="),
        ("AI_PLATFORM_BASE_URL", "ftp://models"),
        ("STREAM_FLUSH_MILLISECONDS", "5"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Configuration) as caught:
        load_settings()
    assert caught.value.variable == variable
    if variable.endswith("KEY"):
        assert value not in str(caught.value)


def test_on_the_platform_the_project_and_its_database_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    with pytest.raises(Configuration, match="GOOGLE_CLOUD_PROJECT"):
        load_settings()
    monkeypatch.setenv("GCLOUD_PROJECT", "live")
    assert load_settings().realtime_database_url == "https://live-default-rtdb.firebaseio.com"
    assert load_settings().ledger_name == "live"
    config = '{"projectId": "live", "databaseURL": "https://live-2.europe-west1.firebasedatabase.app"}'
    monkeypatch.setenv("FIREBASE_CONFIG", config)
    assert load_settings().realtime_database_url == "https://live-2.europe-west1.firebasedatabase.app"


def test_a_missing_provider_or_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Configuration, match="AI_PLATFORM_BASE_URL"):
        load_settings().require_provider()
    monkeypatch.setenv("AI_PLATFORM_BASE_URL", "http://localhost:1/v1/")
    with pytest.raises(Configuration, match="AI_PLATFORM_API_KEY"):
        load_settings().require_provider()
    with pytest.raises(Configuration, match="LEDGER_SIGNING_KEY"):
        load_settings().require_signing_key()


def test_one_key_is_not_used_for_two_purposes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_SIGNING_KEY", KEY)
    monkeypatch.setenv("CHECKPOINT_SIGNING_KEY", KEY)
    with pytest.raises(Configuration, match="must differ"):
        load_settings()


def test_a_hold_may_live_at_least_as_long_as_it_is_placed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESERVATION_MAX_MINUTES", "9")
    with pytest.raises(Configuration, match="RESERVATION_EXPIRY_MINUTES"):
        load_settings()


def test_the_bucket_is_the_platforms_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().bucket_name == "demo-concierge.appspot.com"
    monkeypatch.setenv("FIREBASE_CONFIG", '{"storageBucket": "live.firebasestorage.app"}')
    assert load_settings().bucket_name == "live.firebasestorage.app"
    monkeypatch.setenv("STORAGE_BUCKET", "audits")
    assert load_settings().bucket_name == "audits"


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_SIGNING_KEY", KEY)
    monkeypatch.setenv("AI_PLATFORM_API_KEY", "sk-very-secret")
    shown = repr(load_settings())
    assert KEY not in shown
    assert "sk-very-secret" not in shown


def test_amounts_are_microcredits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WELCOME_BONUS_AMOUNT", "12.5")
    assert load_settings().welcome_bonus_microcredits == 12_500_000


def test_every_setting_is_explained_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """.env.example names each variable, and what it shows is what an unset variable means."""
    example = Path(__file__).parent.parent.parent / ".env.example"
    shown = dict(line.split("=", 1) for line in example.read_text().splitlines() if line and not line.startswith("#"))
    assert set(shown) | {"FIREBASE_CONFIG"} == {name.upper() for name in Settings.model_fields}
    unset = load_settings()
    for name, value in shown.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == unset


@pytest.mark.parametrize(
    ("variable", "value"),
    [("RESERVATION_EXPIRY_MINUTES", "2"), ("REQUEST_LEASE_SECONDS", "0.5"), ("MIN_OUTPUT_TOKENS", "1024")],
)
def test_settings_that_cannot_work_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("MAX_OUTPUT_TOKENS", "1000")
    monkeypatch.setenv(variable, value)
    with pytest.raises(Configuration) as caught:
        load_settings()
    assert caught.value.variable == variable
