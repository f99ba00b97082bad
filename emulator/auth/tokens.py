"""ID tokens and session cookies: signed JWTs with the claims of production, verified as the Realtime Database does.

The official emulator leaves its tokens unsigned. These are signed (ES256), so that the services and the app can refuse
forged ones; official SDKs in emulator mode do not look at the signature and accept both.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from emulator.auth.accounts import Accounts, User
from emulator.clock import Clock
from emulator.contracts import InvalidToken
from emulator.persistence import Store

ID_TOKEN_LIFETIME_SECONDS = 3600
CUSTOM_TOKEN_AUDIENCE = "https://identitytoolkit.googleapis.com/google.identity.identitytoolkit.v1.IdentityToolkit"  # noqa: S105
RESERVED_CLAIMS = frozenset(
    (
        "acr",
        "amr",
        "at_hash",
        "aud",
        "auth_time",
        "azp",
        "c_hash",
        "cnf",
        "exp",
        "firebase",
        "iat",
        "iss",
        "jti",
        "nbf",
        "nonce",
        "sub",
    )
)

EXPIRED = "Auth token is expired."
REVOKED = "Auth token is revoked."
USER_DELETED = "Auth token belongs to a deleted user."
USER_DISABLED = "Auth token belongs to a disabled user."

_ALGORITHM = "ES256"
_SERVICE = "auth"
_KEY_ROW = "key"
_SEGMENTS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class TokenAuthority:
    """Mints and verifies the tokens of one project. Its key is made once and kept in the store.

    `id_token_lifetime_seconds` may be changed at any time; a negative value mints tokens that are already expired.
    """

    def __init__(self, *, project_id: str, clock: Clock, store: Store, accounts: Accounts) -> None:
        self.project_id = project_id
        self.id_token_lifetime_seconds = ID_TOKEN_LIFETIME_SECONDS
        self._clock = clock
        self._accounts = accounts
        self._key = _load_key(store)
        self._public_key = self._key.public_key()
        self._jwk = _public_jwk(self._public_key)

    @property
    def issuer(self) -> str:
        return f"https://securetoken.google.com/{self.project_id}"

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK set (RFC 7517)."""
        return {"keys": [dict(self._jwk)]}

    def mint(
        self, user: User, *, provider: str, auth_time_s: int | None = None, claims: Mapping[str, Any] | None = None
    ) -> str:
        """A fresh ID token. `provider` is the `sign_in_provider`; `claims` are those of a custom token."""
        now_s = self._clock.now_ms() // 1000
        payload = self._profile_claims(user, provider)
        # Claims of the account and of the custom token never replace the ones that are decided here.
        payload = {**user.custom_claims, **(claims or {}), **payload}
        payload |= {
            "iss": self.issuer,
            "aud": self.project_id,
            "auth_time": now_s if auth_time_s is None else auth_time_s,
            "user_id": user.uid,
            "sub": user.uid,
            "iat": now_s,
            "exp": now_s + self.id_token_lifetime_seconds,
            "firebase": {"identities": user.identities(), "sign_in_provider": provider},
        }
        return self._sign(payload)

    def mint_session_cookie(self, id_token: str, duration_s: int) -> str:
        """A session cookie with the claims of a valid ID token. Raises InvalidToken."""
        now_s = self._clock.now_ms() // 1000
        issuer = f"https://session.firebase.google.com/{self.project_id}"
        return self._sign({**self.verify(id_token), "iss": issuer, "iat": now_s, "exp": now_s + duration_s})

    def verify(self, token: str) -> Mapping[str, Any]:
        """The claims of a valid ID token of this project.

        Raises InvalidToken: malformed, unsigned, signed by another key, of another project, expired, revoked, or of a
        user who is disabled or deleted.
        """
        claims = self._signed_claims(token)
        if claims.get("aud") != self.project_id:
            raise InvalidToken("Invalid claim 'aud' in auth token.")
        if claims.get("iss") != self.issuer:
            raise InvalidToken("Invalid claim 'iss' in auth token.")
        uid, issued_at_s, expires_at_s = claims.get("sub"), claims.get("iat"), claims.get("exp")
        if not isinstance(uid, str) or not isinstance(issued_at_s, int) or not isinstance(expires_at_s, int):
            raise InvalidToken("Could not parse auth token.")
        if expires_at_s * 1000 <= self._clock.now_ms():
            raise InvalidToken(EXPIRED)
        user = self._accounts.get(uid)
        if user is None:
            raise InvalidToken(USER_DELETED)
        if user.disabled:
            raise InvalidToken(USER_DISABLED)
        if issued_at_s < user.valid_since_s:
            raise InvalidToken(REVOKED)
        return claims

    def _signed_claims(self, token: str) -> dict[str, Any]:
        if not _SEGMENTS.fullmatch(token):
            raise InvalidToken("Could not parse auth token.")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != _ALGORITHM:
                raise InvalidToken("Invalid claim 'alg' in auth header.")
            if header.get("kid") != self._jwk["kid"]:
                raise InvalidToken("Invalid claim 'kid' in auth header.")
            return jwt.decode(token, self._public_key, algorithms=[_ALGORITHM], options=_SIGNATURE_ONLY)
        except jwt.InvalidSignatureError as error:
            raise InvalidToken("Invalid signature in auth token.") from error
        except jwt.PyJWTError as error:
            raise InvalidToken("Could not parse auth token.") from error

    def _profile_claims(self, user: User, provider: str) -> dict[str, Any]:
        claims: dict[str, Any] = {}
        if user.display_name is not None:
            claims["name"] = user.display_name
        if user.photo_url is not None:
            claims["picture"] = user.photo_url
        if user.email is not None:
            claims |= {"email": user.email, "email_verified": user.email_verified}
        if user.phone_number is not None:
            claims["phone_number"] = user.phone_number
        if provider == "anonymous":
            claims["provider_id"] = "anonymous"
        return claims

    def _sign(self, payload: dict[str, Any]) -> str:
        return jwt.encode(payload, self._key, algorithm=_ALGORITHM, headers={"kid": self._jwk["kid"]})


# The library compares times with the machine's clock, but ours can be moved: verify() checks what is left out here.
_SIGNATURE_ONLY: Any = {
    "verify_signature": True,
    **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss"), False),
}


def _load_key(store: Store) -> ec.EllipticCurvePrivateKey:
    for name, value in store.rows(_SERVICE):
        if name == _KEY_ROW:
            key = serialization.load_pem_private_key(value, password=None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            return key
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    store.write(_SERVICE, {_KEY_ROW: pem})
    return key


def _public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """The key as a JWK whose id is its thumbprint (RFC 7638), so that the id changes with the key."""
    numbers = key.public_numbers()
    members = {"crv": "P-256", "kty": "EC", "x": _coordinate(numbers.x), "y": _coordinate(numbers.y)}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return {**members, "alg": _ALGORITHM, "use": "sig", "kid": _base64url(hashlib.sha256(canonical).digest())}


def _coordinate(value: int) -> str:
    return _base64url(value.to_bytes(32, "big"))


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
