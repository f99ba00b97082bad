"""Signing up and in, by every way a client has, and refreshing a session.

Each operation takes the fields of the request and returns the JSON of the answer, as the Identity Toolkit API
(https://cloud.google.com/identity-platform/docs/use-rest-api) describes it. All raise AuthError.
"""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt

from emulator.auth.accounts import User, canonical_email, checked_email, checked_phone, new_uid
from emulator.auth.errors import AuthError, Fields
from emulator.auth.passwords import hash_password
from emulator.auth.project import Answer, Project, checked_claims, parsed_claims
from emulator.auth.tokens import CUSTOM_TOKEN_AUDIENCE

_UID_LENGTH_MAX = 128


def sign_up(project: Project, fields: Fields) -> Answer:
    """accounts:signUp of a client: a password account, an anonymous one, or an upgrade of the latter (idToken)."""
    if fields.has("localId"):
        raise AuthError("UNEXPECTED_PARAMETER : User ID")
    now_ms = project.now_ms()
    if not (fields.has("idToken") or fields.has("email") or fields.has("password")):
        user = project.accounts.create(User(uid=new_uid(), created_at_ms=now_ms, valid_since_s=now_ms // 1000))
        return _signed_up(user) | project.open_session(user, "anonymous")
    email = fields.text("email")
    if email is None:
        raise AuthError("MISSING_EMAIL")
    profile: dict[str, Any] = {"email": checked_email(email)}
    password = fields.need("password", "MISSING_PASSWORD")
    if fields.has("displayName"):
        profile["display_name"] = fields.text("displayName")
    if fields.has("idToken"):
        user, _ = project.signed_in(fields)
        profile["email_verified"] = user.email_verified and user.email == profile["email"]
        user = project.accounts.update(user, **profile, password=hash_password(password))
    else:
        if project.accounts.by_email(profile["email"]) is not None:
            raise AuthError("EMAIL_EXISTS")  # before the costly hash
        profile |= {"password": hash_password(password), "valid_since_s": now_ms // 1000}
        user = project.accounts.create(User(uid=new_uid(), created_at_ms=now_ms, **profile))
    return _signed_up(user) | project.open_session(user, "password")


def create_account(project: Project, fields: Fields) -> Answer:
    """projects/{p}/accounts of an admin: creates a user and signs nobody in."""
    uid = fields.text("localId")
    if uid is not None and not 0 < len(uid) <= _UID_LENGTH_MAX:
        raise AuthError("INVALID_LOCAL_ID")
    email, phone_number, password = (fields.text(name) for name in ("email", "phoneNumber", "password"))
    claims = fields.text("customAttributes")
    now_ms = project.now_ms()
    user = User(
        uid=uid or new_uid(),
        created_at_ms=now_ms,
        valid_since_s=now_ms // 1000,
        email=None if email is None else checked_email(email),
        email_verified=bool(fields.flag("emailVerified")),
        display_name=fields.text("displayName"),
        photo_url=fields.text("photoUrl"),
        phone_number=None if phone_number is None else checked_phone(phone_number),
        disabled=bool(fields.flag("disabled")),
        password=None if password is None else hash_password(password),
        custom_claims={} if claims is None else parsed_claims(claims),
    )
    return _signed_up(project.accounts.create(user))


def sign_in_with_password(project: Project, fields: Fields) -> Answer:
    email = fields.text("email")
    if email is None:
        raise AuthError("MISSING_EMAIL")
    email = checked_email(email)
    password = fields.need("password", "MISSING_PASSWORD")
    private = project.settings.improved_email_privacy
    user = project.accounts.by_email(email)
    if user is None:
        raise AuthError("INVALID_LOGIN_CREDENTIALS" if private else "EMAIL_NOT_FOUND")
    if user.disabled:
        raise AuthError("USER_DISABLED")
    if user.password is None or not user.password.matches(password):
        raise AuthError("INVALID_LOGIN_CREDENTIALS" if private else "INVALID_PASSWORD")
    answer: Answer = {
        "kind": "identitytoolkit#VerifyPasswordResponse",
        "registered": True,
        "localId": user.uid,
        "email": email,
        "displayName": user.display_name or "",
    }
    return answer | project.open_session(user, "password")


def sign_in_with_custom_token(project: Project, fields: Fields) -> Answer:
    """Takes a token of the Admin SDK. In emulator mode those are unsigned; signatures and times are not looked at,
    as in the official emulator, so that a token made by the machine's clock works after ours was moved."""
    payload = _custom_token_payload(fields.need("token", "MISSING_CUSTOM_TOKEN"))
    uid = payload.get("uid", payload.get("user_id"))
    if not isinstance(uid, str) or not 0 < len(uid) <= _UID_LENGTH_MAX:
        raise AuthError("MISSING_IDENTIFIER")
    claims = checked_claims(payload.get("claims") or {})
    user = project.accounts.get(uid)
    is_new = user is None
    if user is None:
        now_ms = project.now_ms()
        user = project.accounts.create(
            User(uid=uid, created_at_ms=now_ms, valid_since_s=now_ms // 1000, custom_auth=True)
        )
    answer: Answer = {"kind": "identitytoolkit#VerifyCustomTokenResponse", "isNewUser": is_new, "localId": uid}
    answer |= project.open_session(user, "custom", claims)
    if not user.custom_auth:
        project.accounts.update(user, custom_auth=True)
    return answer


def sign_in_with_email_link(project: Project, fields: Fields) -> Answer:
    email = canonical_email(fields.need("email", "MISSING_EMAIL"))
    code = fields.need("oobCode", "MISSING_OOB_CODE")
    linked = project.signed_in(fields)[0] if fields.has("idToken") else None
    if project.codes.look(code).email != email:
        raise AuthError("INVALID_EMAIL : The email provided does not match the sign-in email address.")
    project.codes.use(code, "EMAIL_SIGNIN")
    user = linked or project.accounts.by_email(email)
    is_new = user is None
    profile: dict[str, Any] = {"email": email, "email_verified": True, "email_link": True}
    if user is None:
        user = project.accounts.create(User(uid=new_uid(), created_at_ms=project.now_ms(), **profile))
    else:
        if user.disabled:
            raise AuthError("USER_DISABLED")
        user = project.accounts.update(user, **profile)
    answer: Answer = {"kind": "identitytoolkit#EmailLinkSigninResponse", "email": email, "localId": user.uid}
    return answer | {"isNewUser": is_new} | project.open_session(user, "password")


def sign_in_with_idp(project: Project, fields: Fields) -> Answer:
    """Sign-in with an identity provider, in the emulator's form: the id_token in postBody is unsigned JSON or a JWT.

    One account per address: an address that the provider verified joins the account that has it; one that it did not
    is answered by needConfirmation.
    """
    query = _idp_credential(fields)
    provider = query.get("providerId", "").lower()
    if not provider:
        raise AuthError("INVALID_CREDENTIAL_OR_PROVIDER_ID : Invalid IdP response/credential.")
    claims = _unverified_claims(query.get("id_token", ""), "INVALID_IDP_RESPONSE : Unable to parse id_token.")
    raw_id = claims.get("sub")
    if not isinstance(raw_id, str) or not raw_id:
        raise AuthError("INVALID_IDP_RESPONSE : Missing sub in id_token.")
    identity = _identity(raw_id, claims)
    verified = claims.get("email_verified") is True and "email" in identity
    answer: Answer = {
        "kind": "identitytoolkit#VerifyAssertionResponse",
        "providerId": provider,
        "federatedId": raw_id,
        "rawUserInfo": json.dumps(claims),
        "oauthIdToken": query["id_token"],
        "emailVerified": verified,
        **{name: value for name, value in identity.items() if name != "rawId"},
    }
    user = project.accounts.by_provider(provider, raw_id)
    is_new = False
    if fields.has("idToken"):
        user = _link(project, project.signed_in(fields)[0], provider, identity)
    elif user is None:
        same_address = project.accounts.by_email(identity["email"]) if "email" in identity else None
        if same_address is not None and not verified:
            return answer | {"needConfirmation": True, "verifiedProvider": same_address.provider_ids()}
        is_new = same_address is None
        user = _join(project, same_address, provider, identity, verified=verified)
    return answer | {"localId": user.uid, "isNewUser": is_new} | project.open_session(user, provider)


def refresh(project: Project, fields: Fields) -> Answer:
    """securetoken.googleapis.com/v1/token: a fresh ID token of the same session."""
    grant_type = fields.need("grant_type", "MISSING_GRANT_TYPE")
    if grant_type != "refresh_token":
        raise AuthError("INVALID_GRANT_TYPE")
    token = fields.need("refresh_token", "MISSING_REFRESH_TOKEN")
    session = project.accounts.session(token)
    if session is None:
        raise AuthError("INVALID_REFRESH_TOKEN")
    user = project.accounts.get(session.uid)
    if user is None:
        raise AuthError("USER_NOT_FOUND")
    if user.disabled:
        raise AuthError("USER_DISABLED")
    if session.revoked:
        raise AuthError("TOKEN_EXPIRED")
    user = project.accounts.update(user, last_refresh_at_ms=project.now_ms())
    id_token = project.mint(user, session)
    return {
        "id_token": id_token,
        "access_token": id_token,
        "expires_in": str(project.tokens.id_token_lifetime_seconds),
        "refresh_token": token,
        "token_type": "Bearer",
        "user_id": user.uid,
        "project_id": project.project_id,
    }


def create_auth_uri(project: Project, fields: Fields) -> Answer:
    """accounts:createAuthUri: how an address signs in, unless e-mail privacy forbids to tell."""
    email = checked_email(fields.need("identifier", "MISSING_IDENTIFIER"), "INVALID_IDENTIFIER")
    if not urlsplit(fields.need("continueUri", "MISSING_CONTINUE_URI")).netloc:
        raise AuthError("INVALID_CONTINUE_URI")
    session_id = fields.text("sessionId") or new_uid()
    answer: Answer = {"kind": "identitytoolkit#CreateAuthUriResponse", "sessionId": session_id}
    if project.settings.improved_email_privacy:
        return answer
    user = project.accounts.by_email(email)
    providers = [name for name in user.provider_ids() if name != "phone"] if user else []
    methods = [name for name in providers if name != "password" or (user and user.password)]
    if user is not None and user.email_link:
        methods.append("emailLink")
    return answer | {"registered": user is not None, "allProviders": providers, "signinMethods": methods}


def _signed_up(user: User) -> Answer:
    answer = {"kind": "identitytoolkit#SignupNewUserResponse", "localId": user.uid}
    optional = {"email": user.email, "displayName": user.display_name}
    return answer | {name: value for name, value in optional.items() if value is not None}


def _custom_token_payload(token: str) -> dict[str, Any]:
    payload = _unverified_claims(token, "INVALID_CUSTOM_TOKEN : Invalid assertion format")
    # A plain JSON object is a convenience of the emulators, and names no audience.
    if not token.startswith("{") and payload.get("aud") != CUSTOM_TOKEN_AUDIENCE:
        raise AuthError("INVALID_CUSTOM_TOKEN : The audience is not that of a custom token.")
    return payload


def _unverified_claims(token: str, error_message: str) -> dict[str, Any]:
    """The claims of a JSON object or of a JWT whose signature nobody here could check. Raises AuthError."""
    try:
        is_json = token.startswith("{")
        claims = json.loads(token) if is_json else jwt.decode(token, options={"verify_signature": False})
    except (ValueError, jwt.PyJWTError) as error:
        raise AuthError(error_message) from error
    assert isinstance(claims, dict)
    return claims


def _idp_credential(fields: Fields) -> dict[str, str]:
    """The parameters of postBody, and those of requestUri where postBody does not have them."""
    uri = urlsplit(fields.need("requestUri", "MISSING_REQUEST_URI"))
    sources = (uri.query, uri.fragment, fields.text("postBody") or "")
    return {name: values[-1] for source in sources for name, values in parse_qs(source).items()}


def _identity(raw_id: str, claims: dict[str, Any]) -> dict[str, Any]:
    identity: dict[str, Any] = {"rawId": raw_id}
    for ours, names in (("email", ("email",)), ("displayName", ("name", "displayName")), ("photoUrl", ("picture",))):
        value = next((claims[name] for name in names if isinstance(claims.get(name), str)), None)
        if value is not None:
            identity[ours] = checked_email(value) if ours == "email" else value
    return identity


def _link(project: Project, user: User, provider: str, identity: dict[str, Any]) -> User:
    if provider in user.providers and user.providers[provider]["rawId"] != identity["rawId"]:
        raise AuthError("PROVIDER_ALREADY_LINKED")
    return project.accounts.update(user, providers={**user.providers, provider: identity})


def _join(project: Project, user: User | None, provider: str, identity: dict[str, Any], *, verified: bool) -> User:
    if user is None:
        return project.accounts.create(
            User(
                uid=new_uid(),
                created_at_ms=project.now_ms(),
                email=identity.get("email"),
                email_verified=verified,
                display_name=identity.get("displayName"),
                photo_url=identity.get("photoUrl"),
                providers={provider: identity},
            )
        )
    if user.disabled:
        raise AuthError("USER_DISABLED")
    changes: dict[str, Any] = {"providers": {**user.providers, provider: identity}, "email_verified": True}
    if not user.email_verified:
        # Whoever set this password never proved to own the address: it must not open the owner's account.
        changes |= {"password": None}
    return project.accounts.update(user, **changes)
