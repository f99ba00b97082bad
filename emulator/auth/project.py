"""What the operations of Auth work on, and what several of them need: sessions, profiles, settings. No HTTP here."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from emulator.auth import tokens
from emulator.auth.accounts import Accounts, RefreshToken, User
from emulator.auth.action_codes import ActionCodes
from emulator.auth.errors import AuthError, Fields
from emulator.auth.passwords import encode_bytes
from emulator.auth.tokens import RESERVED_CLAIMS, TokenAuthority
from emulator.clock import Clock
from emulator.contracts import InvalidToken

_CLAIMS_LENGTH_MAX = 1000
_REDACTED_BASE64 = "UkVEQUNURUQ="
_TOKEN_ERRORS = {
    tokens.EXPIRED: "TOKEN_EXPIRED",
    tokens.REVOKED: "TOKEN_EXPIRED",
    tokens.USER_DELETED: "USER_NOT_FOUND",
    tokens.USER_DISABLED: "USER_DISABLED",
}

Answer = dict[str, Any]


@dataclass(slots=True)
class Settings:
    """What tests may change while the server runs; a restart brings back these defaults."""

    # Google's default for new projects: sign-in does not tell whether an address is registered.
    improved_email_privacy: bool = True


@dataclass(frozen=True, slots=True)
class Project:
    """The state of one project."""

    project_id: str
    clock: Clock
    accounts: Accounts
    tokens: TokenAuthority
    codes: ActionCodes = field(default_factory=ActionCodes)
    settings: Settings = field(default_factory=Settings)

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def now_s(self) -> int:
        return self.clock.now_ms() // 1000

    def signed_in(self, fields: Fields) -> tuple[User, str]:
        """The user of the request's idToken and the provider they used. Raises AuthError."""
        token = fields.need("idToken", "MISSING_ID_TOKEN")
        try:
            claims = self.tokens.verify(token)
        except InvalidToken as error:
            raise AuthError(_TOKEN_ERRORS.get(error.reason, "INVALID_ID_TOKEN")) from error
        user = self.accounts.get(claims["sub"])
        assert user is not None  # verify() has just found it
        return user, str(claims["firebase"]["sign_in_provider"])

    def open_session(self, user: User, provider: str, claims: dict[str, Any] | None = None) -> Answer:
        """Signs a user in: an ID token and a refresh token. Raises USER_DISABLED."""
        if user.disabled:
            raise AuthError("USER_DISABLED")
        now_ms = self.now_ms()
        user = self.accounts.update(user, last_login_at_ms=now_ms, last_refresh_at_ms=now_ms)
        session = RefreshToken(uid=user.uid, provider=provider, auth_time_s=now_ms // 1000, claims=claims or {})
        return {
            "idToken": self.mint(user, session),
            "refreshToken": self.accounts.open_session(session),
            "expiresIn": str(self.tokens.id_token_lifetime_seconds),
        }

    def mint(self, user: User, session: RefreshToken) -> str:
        return self.tokens.mint(user, provider=session.provider, auth_time_s=session.auth_time_s, claims=session.claims)


def user_json(user: User, *, with_password_hash: bool) -> Answer:
    """A user as lookup and batchGet return it; the hash of the password is for admins only."""
    answer: Answer = {
        "localId": user.uid,
        "createdAt": str(user.created_at_ms),
        "emailVerified": user.email_verified,
        "disabled": user.disabled,
        "validSince": str(user.valid_since_s),
        "providerUserInfo": providers_json(user),
    }
    optional = {
        "email": user.email,
        "displayName": user.display_name,
        "photoUrl": user.photo_url,
        "phoneNumber": user.phone_number,
        "customAttributes": json.dumps(user.custom_claims) if user.custom_claims else None,
        "lastLoginAt": None if user.last_login_at_ms is None else str(user.last_login_at_ms),
        "lastRefreshAt": None if user.last_refresh_at_ms is None else _rfc3339(user.last_refresh_at_ms),
        "customAuth": user.custom_auth or None,
        "emailLinkSignin": user.email_link or None,
    }
    answer |= {name: value for name, value in optional.items() if value is not None}
    if user.password is not None:
        if with_password_hash:
            answer["passwordHash"] = encode_bytes(user.password.digest)
            answer["salt"] = encode_bytes(user.password.salt)
        else:
            answer["passwordHash"] = _REDACTED_BASE64
    return answer


def providers_json(user: User) -> list[Answer]:
    """The `providerUserInfo` of a user."""
    providers: list[Answer] = []
    for provider in user.provider_ids():
        if provider == "password":
            details = {"email": user.email, "federatedId": user.email, "rawId": user.email}
            details |= {"displayName": user.display_name, "photoUrl": user.photo_url}
        elif provider == "phone":
            details = {"phoneNumber": user.phone_number, "rawId": user.phone_number}
        else:
            details = dict(user.providers[provider])
        providers.append({"providerId": provider, **{k: v for k, v in details.items() if v is not None}})
    return providers


def checked_claims(claims: Any) -> dict[str, Any]:
    """Custom claims of an account or of a custom token. Raises AuthError as production does."""
    if not isinstance(claims, dict):
        raise AuthError("INVALID_CLAIMS")
    for name in claims:
        if name in RESERVED_CLAIMS:
            raise AuthError(f"FORBIDDEN_CLAIM : {name}")
    if len(json.dumps(claims, separators=(",", ":"))) > _CLAIMS_LENGTH_MAX:
        raise AuthError("CLAIMS_TOO_LARGE")
    return claims


def parsed_claims(text: str) -> dict[str, Any]:
    """The `customAttributes` of a request: JSON in a string."""
    try:
        return checked_claims(json.loads(text) if text else {})
    except json.JSONDecodeError as error:
        raise AuthError("INVALID_CLAIMS") from error


def _rfc3339(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
