"""Web clients: the REST calls that the JavaScript SDK makes."""

import json
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest


def test_sign_up_answers_as_google_does_and_the_token_carries_the_profile(auth: Any) -> None:
    answer = auth.client("signUp", email="Ada@Example.com", password="secret1", displayName="Ada").json()
    assert answer["kind"] == "identitytoolkit#SignupNewUserResponse"
    assert answer["email"] == "ada@example.com"
    assert answer["expiresIn"] == "3600"
    assert len(answer["localId"]) == 28
    claims = auth.verify(answer["idToken"])
    assert claims["sub"] == claims["user_id"] == answer["localId"]
    assert claims["aud"] == "demo-concierge"
    assert claims["iss"] == "https://securetoken.google.com/demo-concierge"
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["auth_time"] == claims["iat"]
    assert (claims["email"], claims["email_verified"], claims["name"]) == ("ada@example.com", False, "Ada")
    assert claims["firebase"] == {"identities": {"email": ["ada@example.com"]}, "sign_in_provider": "password"}


@pytest.mark.parametrize(
    ("operation", "fields", "code"),
    [
        ("signUp", {"email": "ada@example.com", "password": "secret1"}, "EMAIL_EXISTS"),
        ("signUp", {"email": "ADA@example.com", "password": "secret1"}, "EMAIL_EXISTS"),
        ("signUp", {"email": "nonsense", "password": "secret1"}, "INVALID_EMAIL"),
        ("signUp", {"email": "", "password": "secret1"}, "INVALID_EMAIL"),
        ("signUp", {"password": "secret1"}, "MISSING_EMAIL"),
        ("signUp", {"email": "b@example.com"}, "MISSING_PASSWORD"),
        ("signUp", {"email": "b@example.com", "password": "short"}, "WEAK_PASSWORD"),
        ("signUp", {"email": 7, "password": "secret1"}, "INVALID_ARGUMENT"),
        ("signUp", {"email": "b@example.com", "password": "secret1", "localId": "x"}, "UNEXPECTED_PARAMETER"),
        ("signInWithPassword", {"email": "ada@example.com", "password": "wrong-1"}, "INVALID_LOGIN_CREDENTIALS"),
        ("signInWithPassword", {"email": "b@example.com", "password": "secret1"}, "INVALID_LOGIN_CREDENTIALS"),
        ("signInWithPassword", {"email": "ada@example.com"}, "MISSING_PASSWORD"),
        ("signInWithPassword", {"password": "secret1"}, "MISSING_EMAIL"),
        ("signInWithCustomToken", {}, "MISSING_CUSTOM_TOKEN"),
        ("signInWithCustomToken", {"token": "a.b.c"}, "INVALID_CUSTOM_TOKEN"),
        ("signInWithCustomToken", {"token": "{}"}, "MISSING_IDENTIFIER"),
        ("signInWithCustomToken", {"token": '{"uid":"u","claims":{"sub":"x"}}'}, "FORBIDDEN_CLAIM"),
        ("lookup", {}, "MISSING_ID_TOKEN"),
        ("lookup", {"idToken": "nonsense"}, "INVALID_ID_TOKEN"),
        ("update", {"displayName": "x"}, "INVALID_REQ_TYPE"),
        ("update", {"localId": "x", "displayName": "x"}, "INVALID_REQ_TYPE"),
        ("delete", {"localId": "x"}, "MISSING_ID_TOKEN"),
        ("resetPassword", {"oobCode": "unknown", "newPassword": "secret2"}, "INVALID_OOB_CODE"),
        ("sendOobCode", {"email": "ada@example.com"}, "MISSING_REQ_TYPE"),
        ("createAuthUri", {"continueUri": "http://localhost"}, "MISSING_IDENTIFIER"),
        ("mfaEnrollment", {}, "NOT_FOUND"),
    ],
)
def test_refusals(auth: Any, refusal: Any, operation: str, fields: dict[str, Any], code: str) -> None:
    auth.sign_up()
    response = auth.client(operation, **fields)
    assert refusal(response) == code
    error = response.json()["error"]
    assert error["code"] == response.status_code
    assert error["errors"][0]["message"] == error["message"]


def test_sign_in_with_password_finds_the_account_in_any_case(auth: Any) -> None:
    uid = auth.sign_up()["localId"]
    answer = auth.client("signInWithPassword", email="ADA@example.com", password="secret1").json()
    assert (answer["localId"], answer["registered"]) == (uid, True)
    assert auth.verify(answer["idToken"])["sub"] == uid


def test_without_email_privacy_sign_in_says_what_is_wrong(auth: Any, refusal: Any) -> None:
    auth.sign_up()
    config = {"emailPrivacyConfig": {"enableImprovedEmailPrivacy": False}}
    auth.http.patch("/emulator/v1/projects/demo-concierge/config", json=config)
    wrong = auth.client("signInWithPassword", email="ada@example.com", password="wrong-1")
    unknown = auth.client("signInWithPassword", email="b@example.com", password="secret1")
    assert (refusal(wrong), refusal(unknown)) == ("INVALID_PASSWORD", "EMAIL_NOT_FOUND")
    uri = auth.client("createAuthUri", identifier="ada@example.com", continueUri="http://localhost").json()
    assert (uri["registered"], uri["signinMethods"]) == (True, ["password"])


def test_email_privacy_hides_who_is_registered(auth: Any) -> None:
    auth.sign_up()
    known, unknown = (
        auth.client("createAuthUri", identifier=email, continueUri="http://localhost").json()
        for email in ("ada@example.com", "b@example.com")
    )
    assert set(known) == set(unknown) == {"kind", "sessionId"}


def test_an_anonymous_user_keeps_the_uid_when_upgraded(auth: Any, refusal: Any) -> None:
    anonymous = auth.client("signUp", returnSecureToken=True).json()
    claims = auth.verify(anonymous["idToken"])
    assert claims["provider_id"] == claims["firebase"]["sign_in_provider"] == "anonymous"
    auth.sign_up("taken@example.com")
    taken = auth.client("signUp", idToken=anonymous["idToken"], email="taken@example.com", password="secret1")
    assert refusal(taken) == "EMAIL_EXISTS"
    upgraded = auth.client("signUp", idToken=anonymous["idToken"], email="b@example.com", password="secret1").json()
    assert upgraded["localId"] == anonymous["localId"]
    claims = auth.verify(upgraded["idToken"])
    assert claims["firebase"]["sign_in_provider"] == "password"
    assert "provider_id" not in claims
    signed_in = auth.client("signInWithPassword", email="b@example.com", password="secret1").json()
    assert signed_in["localId"] == anonymous["localId"]


def test_lookup_shows_oneself_without_the_hash(auth: Any) -> None:
    user = auth.sign_up()
    (found,) = auth.client("lookup", idToken=user["idToken"]).json()["users"]
    assert found["localId"] == user["localId"]
    assert found["providerUserInfo"][0]["providerId"] == "password"
    assert found["passwordHash"] == "UkVEQUNURUQ="
    assert "salt" not in found


def test_refresh_keeps_the_session_and_takes_form_and_json(auth: Any, refusal: Any) -> None:
    user = auth.sign_up()
    signed_in_at = auth.verify(user["idToken"])["auth_time"]
    auth.clock.advance(7200)
    answer = auth.refresh(user["refreshToken"]).json()
    claims = auth.verify(answer["id_token"])
    assert claims["auth_time"] == signed_in_at
    assert claims["iat"] >= signed_in_at + 7200
    assert (answer["user_id"], answer["expires_in"], answer["token_type"]) == (user["localId"], "3600", "Bearer")
    body = {"grantType": "refresh_token", "refreshToken": answer["refresh_token"]}
    assert auth.http.post("/securetoken.googleapis.com/v1/token?key=any", json=body).status_code == 200
    assert refusal(auth.refresh("unknown")) == "INVALID_REFRESH_TOKEN"


def test_a_new_password_ends_the_other_sessions_and_renews_this_one(auth: Any, refusal: Any) -> None:
    user = auth.sign_up()
    other = auth.client("signInWithPassword", email="ada@example.com", password="secret1").json()
    auth.clock.advance(2)
    renewed = auth.client("update", idToken=user["idToken"], password="secret2", returnSecureToken=True).json()
    assert auth.verify(renewed["idToken"])["sub"] == user["localId"]
    assert auth.refresh(renewed["refreshToken"]).status_code == 200
    assert refusal(auth.refresh(other["refreshToken"])) == "TOKEN_EXPIRED"
    assert refusal(auth.client("lookup", idToken=other["idToken"])) == "TOKEN_EXPIRED"
    old = auth.client("signInWithPassword", email="ada@example.com", password="secret1")
    assert refusal(old) == "INVALID_LOGIN_CREDENTIALS"
    assert auth.client("signInWithPassword", email="ada@example.com", password="secret2").status_code == 200


def test_a_client_changes_its_profile_but_not_its_rights(auth: Any, refusal: Any) -> None:
    user = auth.sign_up()
    updated = auth.client("update", idToken=user["idToken"], displayName="Ada", photoUrl="http://x/y.png").json()
    assert (updated["displayName"], updated["photoUrl"]) == ("Ada", "http://x/y.png")
    removed = auth.client("update", idToken=user["idToken"], deleteAttribute=["PHOTO_URL"]).json()
    assert "photoUrl" not in removed
    for field, value in {"customAttributes": '{"admin":true}', "disableUser": False, "emailVerified": True}.items():
        assert refusal(auth.client("update", idToken=user["idToken"], **{field: value})) == "INSUFFICIENT_PERMISSION"


def test_a_new_address_is_unverified_and_frees_the_old_one(auth: Any, refusal: Any) -> None:
    user = auth.sign_up()
    auth.admin("/accounts:update", localId=user["localId"], emailVerified=True)
    auth.sign_up("taken@example.com")
    assert refusal(auth.client("update", idToken=user["idToken"], email="taken@example.com")) == "EMAIL_EXISTS"
    moved = auth.client("update", idToken=user["idToken"], email="new@example.com").json()
    assert (moved["email"], moved["emailVerified"]) == ("new@example.com", False)
    assert auth.sign_up("ada@example.com")["localId"] != user["localId"]


def test_unlinking_the_password_leaves_an_account_without_one(auth: Any) -> None:
    user = auth.sign_up()
    answer = auth.client("update", idToken=user["idToken"], deleteProvider=["password"]).json()
    assert answer["providerUserInfo"] == []
    assert "email" not in answer


def test_a_deleted_user_is_gone_and_its_tokens_with_it(auth: Any, refusal: Any) -> None:
    user = auth.sign_up()
    assert auth.client("delete", idToken=user["idToken"]).json()["kind"] == "identitytoolkit#DeleteAccountResponse"
    assert refusal(auth.client("lookup", idToken=user["idToken"])) == "USER_NOT_FOUND"
    assert refusal(auth.refresh(user["refreshToken"])) == "USER_NOT_FOUND"
    assert auth.sign_up()["localId"] != user["localId"]


def test_a_password_is_reset_with_a_listed_code_once(auth: Any, refusal: Any) -> None:
    user = auth.sign_up()
    assert auth.client("sendOobCode", requestType="PASSWORD_RESET", email="b@example.com").status_code == 200
    auth.client("sendOobCode", requestType="PASSWORD_RESET", email="ada@example.com")
    (listed,) = auth.http.get("/emulator/v1/projects/demo-concierge/oobCodes").json()["oobCodes"]
    assert (listed["email"], listed["requestType"]) == ("ada@example.com", "PASSWORD_RESET")
    assert auth.client("resetPassword", oobCode=listed["oobCode"]).json()["email"] == "ada@example.com"
    weak = auth.client("resetPassword", oobCode=listed["oobCode"], newPassword="x")
    assert refusal(weak) == "WEAK_PASSWORD"
    assert auth.client("resetPassword", oobCode=listed["oobCode"], newPassword="secret2").status_code == 200
    again = auth.client("resetPassword", oobCode=listed["oobCode"], newPassword="secret3")
    assert refusal(again) == "INVALID_OOB_CODE"
    assert auth.client("signInWithPassword", email="ada@example.com", password="secret2").status_code == 200
    assert refusal(auth.refresh(user["refreshToken"])) == "TOKEN_EXPIRED"


def test_an_address_is_verified_by_following_the_link(auth: Any) -> None:
    user = auth.sign_up()
    auth.client("sendOobCode", requestType="VERIFY_EMAIL", idToken=user["idToken"])
    (listed,) = auth.http.get("/emulator/v1/projects/demo-concierge/oobCodes").json()["oobCodes"]
    assert auth.http.get(listed["oobLink"]).json() == {"done": "verifyEmail", "email": "ada@example.com"}
    (found,) = auth.client("lookup", idToken=user["idToken"]).json()["users"]
    assert found["emailVerified"] is True
    assert auth.http.get("/emulator/v1/projects/demo-concierge/oobCodes").json() == {"oobCodes": []}


def test_sign_in_by_link_creates_an_account_with_a_verified_address(auth: Any, refusal: Any) -> None:
    auth.client("sendOobCode", requestType="EMAIL_SIGNIN", email="c@example.com", continueUrl="http://app.test/in?a=1")
    (listed,) = auth.http.get("/emulator/v1/projects/demo-concierge/oobCodes").json()["oobCodes"]
    location = urlsplit(auth.http.get(listed["oobLink"]).headers["Location"])
    query = parse_qs(location.query)
    assert (location.netloc, query["a"], query["mode"]) == ("app.test", ["1"], ["signIn"])
    wrong = auth.client("signInWithEmailLink", email="d@example.com", oobCode=query["oobCode"][0])
    assert refusal(wrong) == "INVALID_EMAIL"
    answer = auth.client("signInWithEmailLink", email="c@example.com", oobCode=query["oobCode"][0]).json()
    assert answer["isNewUser"] is True
    assert auth.verify(answer["idToken"])["email_verified"] is True


def _idp(auth: Any, claims: dict[str, Any], **fields: Any) -> dict[str, Any]:
    post_body = urlencode({"id_token": json.dumps(claims), "providerId": "google.com"})
    return auth.client("signInWithIdp", postBody=post_body, requestUri="http://localhost", **fields).json()


def test_an_identity_provider_signs_in_and_joins_a_verified_address(auth: Any) -> None:
    claims = {"sub": "g-1", "email": "Ada@example.com", "email_verified": True, "name": "Ada"}
    first = _idp(auth, claims)
    again = _idp(auth, claims)
    assert (first["isNewUser"], again["isNewUser"]) == (True, False)
    assert first["localId"] == again["localId"]
    token = auth.verify(first["idToken"])
    assert token["firebase"]["sign_in_provider"] == "google.com"
    assert token["firebase"]["identities"] == {"google.com": ["g-1"], "email": ["ada@example.com"]}
    owner = auth.sign_up("b@example.com")
    unverified = _idp(auth, {"sub": "g-2", "email": "b@example.com"})
    assert unverified["needConfirmation"] is True
    assert "idToken" not in unverified
    joined = _idp(auth, {"sub": "g-2", "email": "b@example.com", "email_verified": True})
    assert joined["localId"] == owner["localId"]
    squatter = auth.client("signInWithPassword", email="b@example.com", password="secret1")
    assert squatter.status_code == 400  # the password of an unverified address does not open the owner's account


def test_a_linked_identity_belongs_to_one_user(auth: Any, refusal: Any) -> None:
    user = auth.sign_up()
    linked = _idp(auth, {"sub": "g-1", "email": "other@example.com"}, idToken=user["idToken"])
    assert linked["localId"] == user["localId"]
    other = auth.sign_up("b@example.com")
    post_body = urlencode({"id_token": '{"sub":"g-1"}', "providerId": "google.com"})
    refused = auth.client("signInWithIdp", postBody=post_body, requestUri="http://x", idToken=other["idToken"])
    assert refusal(refused) == "FEDERATED_USER_ID_ALREADY_LINKED"


def test_browsers_of_any_origin_may_call(auth: Any) -> None:
    url = "/identitytoolkit.googleapis.com/v1/accounts:signUp?key=any"
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Headers": "content-type,x-client-version"}
    preflight = auth.http.options(url, headers={**headers, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert preflight.headers["Access-Control-Allow-Headers"] == "content-type,x-client-version"
    assert auth.http.post(url, json={}).headers["Access-Control-Allow-Origin"] == "*"
    assert auth.client("lookup").headers["Access-Control-Allow-Origin"] == "*"


def test_a_client_needs_a_key_and_sends_objects(auth: Any, refusal: Any) -> None:
    url = "/identitytoolkit.googleapis.com/v1/accounts:signUp"
    assert refusal(auth.http.post(url, json={})) == "PERMISSION_DENIED"
    for content in (b"{", b"[]", b"\xff"):
        assert refusal(auth.http.post(url + "?key=any", content=content)) == "INVALID_ARGUMENT"
    assert refusal(auth.http.get("/nowhere")) == "NOT_FOUND"


def test_a_new_address_counts_only_after_its_owner_followed_the_link(auth: Any, refusal: Any) -> None:
    user = auth.sign_up()
    request = {"requestType": "VERIFY_AND_CHANGE_EMAIL", "idToken": user["idToken"]}
    auth.sign_up("taken@example.com")
    assert refusal(auth.client("sendOobCode", **request, newEmail="taken@example.com")) == "EMAIL_EXISTS"
    assert auth.client("sendOobCode", **request, newEmail="new@example.com").status_code == 200
    (listed,) = auth.http.get("/emulator/v1/projects/demo-concierge/oobCodes").json()["oobCodes"]
    assert listed["newEmail"] == "new@example.com"
    assert auth.client("signInWithPassword", email="ada@example.com", password="secret1").status_code == 200
    moved = auth.client("update", oobCode=listed["oobCode"]).json()
    assert (moved["email"], moved["emailVerified"]) == ("new@example.com", True)
    assert auth.client("signInWithPassword", email="new@example.com", password="secret1").status_code == 200
    assert refusal(auth.refresh(user["refreshToken"])) == "TOKEN_EXPIRED"
