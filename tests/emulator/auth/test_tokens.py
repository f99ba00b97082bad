"""Which ID tokens are refused, and that the right ones are not."""

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from emulator.auth.accounts import Accounts, User
from emulator.auth.tokens import TokenAuthority
from emulator.clock import Clock
from emulator.contracts import InvalidToken
from emulator.persistence import Store


class Bench:
    """A token authority with one user."""

    def __init__(self, project_id: str = "demo") -> None:
        self.clock = Clock()
        self.accounts = Accounts(Store(None))
        self.user = self.accounts.create(User(uid="ada", created_at_ms=1, email="ada@example.com"))
        self.tokens = TokenAuthority(project_id=project_id, clock=self.clock, store=Store(None), accounts=self.accounts)

    def mint(self) -> str:
        return self.tokens.mint(self.user, provider="password")

    def reason(self, token: str) -> str:
        with pytest.raises(InvalidToken) as caught:
            self.tokens.verify(token)
        return caught.value.reason


@pytest.fixture(name="bench")
def _bench() -> Bench:
    return Bench()


def _segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_fresh_token_is_accepted_until_it_expires(bench: Bench) -> None:
    token = bench.mint()
    assert bench.tokens.verify(token)["sub"] == "ada"
    bench.clock.advance(3590)
    assert bench.tokens.verify(token)["sub"] == "ada"
    bench.clock.advance(10)
    assert bench.reason(token) == "Auth token is expired."


def test_a_negative_lifetime_mints_expired_tokens(bench: Bench) -> None:
    bench.tokens.id_token_lifetime_seconds = -1
    assert bench.reason(bench.mint()) == "Auth token is expired."


@pytest.mark.parametrize("token", ["", "x", "a.b", "a.b.c", "é.b.c", "\ud800.b.c", "a.b.c.d", "..", "e30.e30.e30"])
def test_malformed_tokens(bench: Bench, token: str) -> None:
    assert bench.reason(token) in ("Could not parse auth token.", "Invalid claim 'alg' in auth header.")


def test_unsigned_tokens_are_refused(bench: Bench) -> None:
    header, claims, signature = bench.mint().split(".")
    for algorithm in ("none", "None", "HS256"):
        forged = _segment({"alg": algorithm, "typ": "JWT"})
        for end in ("", signature):
            assert bench.reason(f"{forged}.{claims}.{end}") == "Invalid claim 'alg' in auth header."
    assert bench.reason(f"{header}.{claims}.") == "Invalid signature in auth token."


def test_a_changed_claim_breaks_the_signature(bench: Bench) -> None:
    header, claims, signature = bench.mint().split(".")
    payload = json.loads(base64.urlsafe_b64decode(claims + "=="))
    forged = _segment({**payload, "admin": True})
    assert bench.reason(f"{header}.{forged}.{signature}") == "Invalid signature in auth token."


def test_another_key_is_refused_under_our_key_id_too(bench: Bench) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    token = bench.mint()
    kid = jwt.get_unverified_header(token)["kid"]
    payload = dict(bench.tokens.verify(token))
    ours = jwt.encode(payload, stranger, algorithm="ES256", headers={"kid": kid})
    theirs = jwt.encode(payload, stranger, algorithm="ES256", headers={"kid": "other"})
    assert bench.reason(ours) == "Invalid signature in auth token."
    assert bench.reason(theirs) == "Invalid claim 'kid' in auth header."


def test_a_token_of_another_project_with_the_same_key_is_refused(bench: Bench) -> None:
    token = bench.mint()
    bench.tokens.project_id = "other"
    assert bench.reason(token) == "Invalid claim 'aud' in auth token."


def test_a_session_cookie_is_no_id_token(bench: Bench) -> None:
    cookie = bench.tokens.mint_session_cookie(bench.mint(), 300)
    assert bench.reason(cookie) == "Invalid claim 'iss' in auth token."


def test_revoked_disabled_and_deleted_users(bench: Bench) -> None:
    token = bench.mint()
    bench.accounts.update(bench.user, disabled=True)
    assert bench.reason(token) == "Auth token belongs to a disabled user."
    bench.accounts.update(bench.user, disabled=False)
    issued_at_s = bench.tokens.verify(token)["iat"]
    bench.accounts.revoke_sessions(bench.user, issued_at_s)
    assert bench.tokens.verify(token)["sub"] == "ada"
    bench.accounts.revoke_sessions(bench.user, issued_at_s + 1)
    assert bench.reason(token) == "Auth token is revoked."
    bench.accounts.delete(bench.user)
    assert bench.reason(token) == "Auth token belongs to a deleted user."


def test_the_published_keys_verify_our_tokens(auth: Any) -> None:
    token = auth.sign_up()["idToken"]
    url = "/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
    key_set = jwt.PyJWKSet.from_dict(auth.http.get(url).json())
    key = key_set[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, audience="demo-concierge", issuer="https://securetoken.google.com/demo-concierge")
    assert claims["email"] == "ada@example.com"
    assert all("d" not in published for published in auth.http.get(url).json()["keys"])


def test_the_lifetime_is_set_over_http(auth: Any, refusal: Callable[..., str]) -> None:
    auth.set_lifetime(-10)
    expired = auth.sign_up()
    with pytest.raises(InvalidToken, match="expired"):
        auth.verify(expired["idToken"])
    assert refusal(auth.client("lookup", idToken=expired["idToken"])) == "TOKEN_EXPIRED"
    auth.set_lifetime(60)
    refreshed = auth.refresh(expired["refreshToken"]).json()
    assert refreshed["expires_in"] == "60"
    assert auth.verify(refreshed["id_token"])["sub"] == expired["localId"]
