"""The unmodified firebase_admin.auth."""

import base64
import hashlib
from typing import Any

import firebase_admin
import pytest
from firebase_admin import auth as sdk
from firebase_admin import exceptions


def test_a_user_is_created_found_changed_and_deleted(app: firebase_admin.App) -> None:
    created = sdk.create_user(
        uid="u1", email="Ada@example.com", password="secret1", display_name="Ada", phone_number="+491701234567", app=app
    )
    assert created.uid == "u1"
    for found in (
        sdk.get_user("u1", app=app),
        sdk.get_user_by_email("ADA@example.com", app=app),
        sdk.get_user_by_phone_number("+491701234567", app=app),
    ):
        assert (found.uid, found.display_name, found.email) == ("u1", "Ada", "ada@example.com")
        assert not found.disabled
        assert {info.provider_id for info in found.provider_data} == {"password", "phone"}
        assert found.user_metadata.creation_timestamp > 0
    changed = sdk.update_user("u1", display_name=sdk.DELETE_ATTRIBUTE, phone_number=sdk.DELETE_ATTRIBUTE, app=app)
    assert (changed.display_name, changed.phone_number) == (None, None)
    sdk.delete_user("u1", app=app)
    with pytest.raises(sdk.UserNotFoundError):
        sdk.get_user("u1", app=app)
    with pytest.raises(sdk.UserNotFoundError):
        sdk.delete_user("u1", app=app)


def test_conflicts_raise_the_errors_of_the_sdk(app: firebase_admin.App) -> None:
    sdk.create_user(uid="u1", email="a@example.com", phone_number="+491701234567", app=app)
    with pytest.raises(sdk.UidAlreadyExistsError):
        sdk.create_user(uid="u1", app=app)
    with pytest.raises(sdk.EmailAlreadyExistsError):
        sdk.create_user(email="A@example.com", app=app)
    with pytest.raises(sdk.PhoneNumberAlreadyExistsError):
        sdk.create_user(phone_number="+491701234567", app=app)
    with pytest.raises(sdk.UserNotFoundError):
        sdk.update_user("unknown", display_name="x", app=app)
    with pytest.raises(exceptions.InvalidArgumentError, match="INVALID_PHONE_NUMBER"):
        sdk.create_user(phone_number="+x", app=app)


def test_users_are_found_many_at_a_time(app: firebase_admin.App) -> None:
    sdk.create_user(uid="u1", email="a@example.com", app=app)
    sdk.create_user(uid="u2", app=app)
    wanted = [sdk.UidIdentifier("u2"), sdk.EmailIdentifier("a@example.com"), sdk.UidIdentifier("u3")]
    result = sdk.get_users(wanted, app=app)
    assert {user.uid for user in result.users} == {"u1", "u2"}
    assert [identifier.uid for identifier in result.not_found] == ["u3"]


def test_users_are_listed_in_pages_without_an_empty_last_one(app: firebase_admin.App) -> None:
    for index in range(6):
        sdk.create_user(uid=f"u{index}", password="secret1", email=f"u{index}@example.com", app=app)
    page = sdk.list_users(max_results=3, app=app)
    assert [user.uid for user in page.users] == ["u0", "u1", "u2"]
    second = page.get_next_page()
    assert [user.uid for user in second.users] == ["u3", "u4", "u5"]
    assert not second.has_next_page
    assert [user.uid for user in sdk.list_users(app=app).iterate_all()] == [f"u{index}" for index in range(6)]
    assert all(user.password_hash and user.password_salt for user in page.users)


def test_many_are_deleted_at_once(app: firebase_admin.App, auth: Any) -> None:
    for uid in ("u1", "u2"):
        sdk.create_user(uid=uid, app=app)
    result = sdk.delete_users(["u1", "u2", "unknown"], app=app)
    assert (result.success_count, result.failure_count) == (3, 0)
    sdk.create_user(uid="u4", app=app)
    (error,) = auth.admin("/accounts:batchDelete", localIds=["u4"]).json()["errors"]
    assert error["message"].startswith("NOT_DISABLED")
    assert sdk.get_user("u4", app=app).uid == "u4"


def test_custom_claims_reach_the_next_id_token(app: firebase_admin.App, auth: Any) -> None:
    user = auth.sign_up()
    sdk.set_custom_user_claims(user["localId"], {"role": "operator", "email": "forged@example.com"}, app=app)
    assert sdk.get_user(user["localId"], app=app).custom_claims == {"role": "operator", "email": "forged@example.com"}
    claims = auth.verify(auth.refresh(user["refreshToken"]).json()["id_token"])
    assert claims["role"] == "operator"
    assert claims["email"] == "ada@example.com"
    sdk.set_custom_user_claims(user["localId"], None, app=app)
    assert "role" not in auth.verify(auth.refresh(user["refreshToken"]).json()["id_token"])


def test_reserved_and_oversized_claims_are_refused(auth: Any, refusal: Any) -> None:
    uid = auth.sign_up()["localId"]
    reserved = auth.admin("/accounts:update", localId=uid, customAttributes='{"sub":"x"}')
    large = auth.admin("/accounts:update", localId=uid, customAttributes='{"x":"' + "y" * 1000 + '"}')
    broken = auth.admin("/accounts:update", localId=uid, customAttributes="{")
    assert [refusal(r) for r in (reserved, large, broken)] == ["FORBIDDEN_CLAIM", "CLAIMS_TOO_LARGE", "INVALID_CLAIMS"]


def test_verify_id_token_accepts_ours_and_sees_revocation(app: firebase_admin.App, auth: Any, refusal: Any) -> None:
    user = auth.sign_up()
    claims = sdk.verify_id_token(user["idToken"], app=app, check_revoked=True)
    assert claims["uid"] == user["localId"]
    auth.clock.advance(100)
    later = auth.client("signInWithPassword", email="ada@example.com", password="secret1").json()
    auth.clock.advance(100)
    sdk.revoke_refresh_tokens(user["localId"], app=app)
    for session in (user, later):
        with pytest.raises(sdk.RevokedIdTokenError):
            sdk.verify_id_token(session["idToken"], app=app, check_revoked=True)
        assert refusal(auth.refresh(session["refreshToken"])) == "TOKEN_EXPIRED"
    fresh = auth.client("signInWithPassword", email="ada@example.com", password="secret1").json()
    assert sdk.verify_id_token(fresh["idToken"], app=app, check_revoked=True)["uid"] == user["localId"]
    assert auth.verify(fresh["idToken"])["sub"] == user["localId"]


def test_a_disabled_user_gets_in_nowhere(app: firebase_admin.App, auth: Any, refusal: Any) -> None:
    user = auth.sign_up()
    sdk.update_user(user["localId"], disabled=True, app=app)
    with pytest.raises(sdk.UserDisabledError):
        sdk.verify_id_token(user["idToken"], app=app, check_revoked=True)
    custom_token = sdk.create_custom_token(user["localId"], app=app).decode()
    for response in (
        auth.client("signInWithPassword", email="ada@example.com", password="secret1"),
        auth.client("signInWithCustomToken", token=custom_token),
        auth.client("lookup", idToken=user["idToken"]),
        auth.refresh(user["refreshToken"]),
    ):
        assert refusal(response) == "USER_DISABLED"
    sdk.update_user(user["localId"], disabled=False, app=app)
    assert auth.client("lookup", idToken=user["idToken"]).status_code == 200


def test_a_custom_token_signs_in_and_its_claims_last_for_the_session(app: firebase_admin.App, auth: Any) -> None:
    token = sdk.create_custom_token("wallet-0xabc", {"wallet": "0xabc"}, app=app).decode()
    first = auth.client("signInWithCustomToken", token=token, returnSecureToken=True).json()
    assert first["isNewUser"] is True
    claims = auth.verify(first["idToken"])
    assert (claims["sub"], claims["wallet"]) == ("wallet-0xabc", "0xabc")
    assert claims["firebase"]["sign_in_provider"] == "custom"
    assert auth.verify(auth.refresh(first["refreshToken"]).json()["id_token"])["wallet"] == "0xabc"
    assert auth.client("signInWithCustomToken", token=token).json()["isNewUser"] is False
    assert sdk.get_user("wallet-0xabc", app=app).uid == "wallet-0xabc"


def test_an_id_token_is_no_custom_token(auth: Any, refusal: Any) -> None:
    user = auth.sign_up()
    assert refusal(auth.client("signInWithCustomToken", token=user["idToken"])) == "INVALID_CUSTOM_TOKEN"


def test_a_session_cookie_is_made_from_a_valid_token_only(app: firebase_admin.App, auth: Any) -> None:
    user = auth.sign_up()
    cookie = sdk.create_session_cookie(user["idToken"], expires_in=3600 * 24, app=app)
    claims = sdk.verify_session_cookie(cookie, check_revoked=True, app=app)
    assert claims["uid"] == user["localId"]
    assert claims["exp"] - claims["iat"] == 3600 * 24
    with pytest.raises(sdk.InvalidIdTokenError):
        sdk.create_session_cookie(cookie, expires_in=3600, app=app)


def test_links_for_emails_are_generated(app: firebase_admin.App, auth: Any) -> None:
    auth.sign_up()
    settings = sdk.ActionCodeSettings(url="http://localhost:5000/done")
    for link, mode in (
        (sdk.generate_password_reset_link("ada@example.com", app=app), "resetPassword"),
        (sdk.generate_email_verification_link("ada@example.com", app=app), "verifyEmail"),
        (sdk.generate_sign_in_with_email_link("ada@example.com", settings, app=app), "signIn"),
    ):
        assert f"mode={mode}" in link
        assert link.startswith(f"http://{auth.address}/emulator/action?")
    with pytest.raises(sdk.EmailNotFoundError):
        sdk.generate_password_reset_link("unknown@example.com", app=app)


def test_imported_users_sign_in_with_their_old_passwords(app: firebase_admin.App, auth: Any) -> None:
    def record(name: str, digest: bytes, salt: bytes) -> sdk.ImportUserRecord:
        return sdk.ImportUserRecord(
            uid=name,
            email=f"{name}@example.com",
            password_hash=digest,
            password_salt=salt,
            provider_data=[sdk.UserProvider(uid=f"g-{name}", provider_id="google.com")],
            custom_claims={"plan": "pro"},
        )

    pbkdf2 = record("old1", hashlib.pbkdf2_hmac("sha256", b"secret1", b"salt", 1000), b"salt")
    result = sdk.import_users([pbkdf2], hash_alg=sdk.UserImportHash.pbkdf2_sha256(rounds=1000), app=app)
    assert result.success_count == 1
    scrypt = record("old2", hashlib.scrypt(b"secret1", salt=b"salt", n=512, r=8, p=1, dklen=64), b"salt")
    standard = sdk.UserImportHash.standard_scrypt(
        memory_cost=512, parallelization=1, block_size=8, derived_key_length=64
    )
    assert sdk.import_users([scrypt], hash_alg=standard, app=app).success_count == 1
    for name in ("old1", "old2"):
        signed_in = auth.client("signInWithPassword", email=f"{name}@example.com", password="secret1").json()
        assert signed_in["localId"] == name
        assert auth.verify(signed_in["idToken"])["plan"] == "pro"
        assert sdk.get_user(name, app=app).provider_data[0].uid == f"g-{name}"
    refused = sdk.import_users([record("old3", b"x", b"y")], hash_alg=sdk.UserImportHash.bcrypt(), app=app)
    assert "INVALID_HASH_ALGORITHM" in refused.errors[0].reason


def test_firebase_scrypt_hashes_verify(app: firebase_admin.App, auth: Any) -> None:
    # The published example of https://github.com/firebase/scrypt.
    key = base64.b64decode("jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==")
    record = sdk.ImportUserRecord(
        uid="old",
        email="old@example.com",
        password_hash=base64.b64decode(
            "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="
        ),
        password_salt=base64.b64decode("42xEC+ixf3L2lw=="),
    )
    algorithm = sdk.UserImportHash.scrypt(key=key, rounds=8, memory_cost=14, salt_separator=base64.b64decode("Bw=="))
    assert sdk.import_users([record], hash_alg=algorithm, app=app).success_count == 1
    signed_in = auth.client("signInWithPassword", email="old@example.com", password="user1password")
    assert signed_in.status_code == 200


def test_admin_calls_need_the_owner_and_this_project(auth: Any, refusal: Any) -> None:
    url = "/identitytoolkit.googleapis.com/v1/projects/{}/accounts:lookup"
    calls = [
        ("demo-concierge", {}, 401),
        ("demo-concierge", {"Authorization": "Bearer forged"}, 403),
        ("demo-concierge", {"Authorization": f"Bearer {auth.sign_up()['idToken']}"}, 403),
        ("other", {"Authorization": "Bearer owner"}, 404),
        ("demo-concierge", {"Authorization": "Bearer owner"}, 200),
    ]
    for project, headers, status in calls:
        response = auth.http.post(url.format(project), json={"localId": ["x"]}, headers=headers)
        assert response.status_code == status


def test_the_emulator_can_be_emptied(app: firebase_admin.App, auth: Any, refusal: Any) -> None:
    user = auth.sign_up()
    assert auth.http.delete("/emulator/v1/projects/demo-concierge/accounts").json() == {}
    assert sdk.list_users(app=app).users == []
    assert refusal(auth.refresh(user["refreshToken"])) == "INVALID_REFRESH_TOKEN"
    assert auth.sign_up()["localId"] != user["localId"]
