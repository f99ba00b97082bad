"""The pure state: indices against a model, rows against a restart, and a kill that leaves no chance to flush."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.auth.accounts import Accounts, RefreshToken, User
from emulator.auth.errors import AuthError
from emulator.auth.passwords import PasswordHash, hash_password
from emulator.persistence import Store

_EMAILS = [None, "a@x", "b@x", "c@x"]
_STEP = st.tuples(
    st.sampled_from(["create", "update", "delete", "overwrite"]),
    st.sampled_from(["u1", "u2", "u3"]),
    st.sampled_from(_EMAILS),
    st.sampled_from([None, "+4911111", "+4922222"]),
    st.sampled_from([{}, {"google.com": {"rawId": "g1"}}, {"google.com": {"rawId": "g2"}}]),
)


def _conflicts(model: dict[str, User], user: User) -> bool:
    others = [other for uid, other in model.items() if uid != user.uid]
    return any(
        (user.email is not None and user.email == other.email)
        or (user.phone_number is not None and user.phone_number == other.phone_number)
        or any(other.providers.get(name) == identity for name, identity in user.providers.items())
        for other in others
    )


def _apply(accounts: Accounts, action: str, user: User) -> None:
    if action == "create":
        accounts.create(user)
    elif action == "overwrite":
        accounts.overwrite(user)
    elif action == "update":
        accounts.update(user, email=user.email, phone_number=user.phone_number, providers=user.providers)
    else:
        known = accounts.get(user.uid)
        if known is None:
            raise AuthError("USER_NOT_FOUND")
        accounts.delete(known)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, max_size=25))
def test_indices_agree_with_a_model_and_with_a_restart(steps: list[Any], tmp_path_factory: Any) -> None:
    store = Store(tmp_path_factory.mktemp("auth"))
    accounts, model = Accounts(store), {}
    for action, uid, email, phone_number, providers in steps:
        user = User(uid=uid, created_at_ms=1, email=email, phone_number=phone_number, providers=providers)
        allowed = {"create": uid not in model, "overwrite": True}.get(action, uid in model)
        if action != "delete":
            allowed = allowed and not _conflicts(model, user)
        try:
            _apply(accounts, action, user)
            assert allowed
            if action == "delete":
                del model[uid]
            else:
                model[uid] = user
        except AuthError:
            assert not allowed
    for state in (accounts, Accounts(store)):
        assert {user.uid: user for user in state} == model
        for email in filter(None, _EMAILS):
            owner = state.by_email(email)
            assert (owner.uid if owner else None) == next((u.uid for u in model.values() if u.email == email), None)
        for raw_id in ("g1", "g2"):
            owner = state.by_provider("google.com", raw_id)
            assert (owner is not None) == any(u.providers == {"google.com": {"rawId": raw_id}} for u in model.values())
    store.close()


@given(uids=st.sets(st.text(min_size=1, max_size=4), max_size=30), limit=st.integers(1, 7))
def test_pages_cover_every_user_once_in_order(uids: set[str], limit: int) -> None:
    accounts = Accounts(Store(None))
    for uid in uids:
        accounts.create(User(uid=uid, created_at_ms=1))
    seen, token = [], ""
    while True:
        users, token = accounts.page(token, limit)
        seen += [user.uid for user in users]
        if not token:
            break
        assert len(users) == limit
    assert seen == sorted(uids)


@settings(max_examples=15, deadline=None)
@given(password=st.text(st.characters(), min_size=6, max_size=20))
def test_any_password_verifies_itself_only(password: str) -> None:
    hashed = hash_password(password)
    assert PasswordHash.from_row(hashed.as_row()).matches(password)
    assert not hashed.matches(password + "x")
    assert hash_password(password).digest != hashed.digest


def test_only_sessions_begun_until_then_are_revoked() -> None:
    accounts = Accounts(Store(None))
    user = accounts.create(User(uid="u", created_at_ms=1))
    early, late = (
        accounts.open_session(RefreshToken(uid="u", provider="password", auth_time_s=at_s, claims={}))
        for at_s in (100, 200)
    )
    accounts.revoke_sessions(user, 100)
    assert [accounts.session(token).revoked for token in (early, late)] == [True, False]


def test_everything_survives_a_restart(tmp_path: Path, start_auth: Callable[..., Any]) -> None:
    first = start_auth(tmp_path)
    user = first.sign_up()
    ended = first.sign_up("b@example.com")
    first.client("delete", idToken=ended["idToken"])
    second = start_auth(tmp_path)
    assert second.verify(user["idToken"])["sub"] == user["localId"]
    assert second.client("signInWithPassword", email="ada@example.com", password="secret1").status_code == 200
    assert second.refresh(user["refreshToken"]).status_code == 200
    assert second.refresh(ended["refreshToken"]).json()["error"]["message"] == "USER_NOT_FOUND"
    assert first.http.get("/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com").json() == (
        second.http.get("/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com").json()
    )


_KILLED = """
import os, signal, sys
from pathlib import Path
from emulator.auth.accounts import Accounts, RefreshToken, User
from emulator.auth.tokens import TokenAuthority
from emulator.clock import Clock
from emulator.persistence import Store
store = Store(Path(sys.argv[1]))
accounts = Accounts(store)
tokens = TokenAuthority(project_id="demo", clock=Clock(), store=store, accounts=accounts)
user = accounts.create(User(uid="ada", created_at_ms=1, email="a@x"))
session = RefreshToken(uid="ada", provider="password", auth_time_s=1, claims={"a": 1})
print(accounts.open_session(session), tokens.mint(user, provider="password"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    from emulator.auth.tokens import TokenAuthority
    from emulator.clock import Clock

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert killed.returncode == -9, killed.stderr
    refresh_token, id_token = killed.stdout.split()
    store = Store(tmp_path)
    accounts = Accounts(store)
    tokens = TokenAuthority(project_id="demo", clock=Clock(), store=store, accounts=accounts)
    session = accounts.session(refresh_token)
    assert session is not None
    assert (session.uid, session.claims, session.revoked) == ("ada", {"a": 1}, False)
    assert tokens.verify(id_token)["sub"] == "ada"
    with pytest.raises(AuthError, match="EMAIL_EXISTS"):
        accounts.create(User(uid="eve", created_at_ms=1, email="a@x"))
    store.close()
