"""What happens to an account after sign-up: lookup, update, deletion, codes by e-mail, and the admin's batches.

Operations as in sign_in.py: fields in, JSON out, AuthError raised.
"""

import time
from typing import Any
from urllib.parse import urlencode, urlsplit

from emulator.auth.accounts import User, canonical_email, checked_email, checked_phone
from emulator.auth.action_codes import MODES, ActionCode, RequestType
from emulator.auth.errors import AuthError, Fields
from emulator.auth.passwords import hash_password
from emulator.auth.project import Answer, Project, parsed_claims, providers_json, user_json
from emulator.contracts import InvalidToken

_SESSION_COOKIE_SECONDS_MIN = 5 * 60
_SESSION_COOKIE_SECONDS_MAX = 14 * 24 * 3600
_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "DISPLAY_NAME": {"display_name": None},
    "PHOTO_URL": {"photo_url": None},
    "PASSWORD": {"password": None},
    "EMAIL": {"email": None, "email_verified": False, "email_link": False},
}


def lookup(project: Project, fields: Fields, *, privileged: bool) -> Answer:
    """accounts:lookup. A client sees itself (idToken); an admin asks for anybody, and unknown users are left out."""
    answer: Answer = {"kind": "identitytoolkit#GetAccountInfoResponse"}
    if not privileged:
        return answer | {"users": [user_json(project.signed_in(fields)[0], with_password_hash=False)]}
    accounts = project.accounts
    found: list[User | None] = [accounts.get(uid) for uid in fields.texts("localId")]
    found += [accounts.by_email(email) for email in fields.texts("email")]
    found += [accounts.by_phone(number) for number in fields.texts("phoneNumber")]
    for identity in fields.objects("federatedUserId"):
        found.append(accounts.by_provider(identity.text("providerId") or "", identity.text("rawId") or ""))
    users = {user.uid: user for user in found if user is not None}
    if users:
        # SDKs take an empty list for a user, so nothing found means no list at all.
        answer["users"] = [user_json(user, with_password_hash=True) for user in users.values()]
    return answer


def update(project: Project, fields: Fields, *, privileged: bool) -> Answer:
    """accounts:update by idToken, by oobCode, or by localId of an admin."""
    if fields.has("oobCode"):
        return _updated(_apply_code(project, fields.need("oobCode", "INVALID_OOB_CODE")))
    provider: str | None = None
    if fields.has("idToken"):
        user, provider = project.signed_in(fields)
        for name in ("customAttributes", "disableUser", "phoneNumber", "emailVerified", "validSince"):
            if fields.has(name) and not privileged:
                raise AuthError("INSUFFICIENT_PERMISSION")
    elif privileged:
        known = project.accounts.get(fields.need("localId", "MISSING_LOCAL_ID"))
        if known is None:
            raise AuthError("USER_NOT_FOUND")
        user = known
    else:
        raise AuthError("INVALID_REQ_TYPE : Unsupported request parameters.")
    changes = _profile_changes(user, fields)
    if privileged:
        changes |= _privileged_changes(fields)
    secrets_changed = "password" in changes or changes.get("email", user.email) != user.email
    user = project.accounts.update(user, **changes)
    valid_since_s = fields.integer("validSince")
    if valid_since_s is not None:
        user = project.accounts.revoke_sessions(user, valid_since_s + _clock_lead_s(project))
    elif secrets_changed:
        user = project.accounts.revoke_sessions(user, project.now_s())
    answer = _updated(user)
    if provider is not None and secrets_changed:
        answer |= project.open_session(user, "password" if fields.has("password") else provider)
    return answer


def delete(project: Project, fields: Fields, *, privileged: bool) -> Answer:
    if privileged:
        user = project.accounts.get(fields.need("localId", "MISSING_LOCAL_ID"))
        if user is None:
            raise AuthError("USER_NOT_FOUND")
    else:
        user, _ = project.signed_in(fields)
    project.accounts.delete(user)
    return {"kind": "identitytoolkit#DeleteAccountResponse"}


def create_session_cookie(project: Project, fields: Fields) -> Answer:
    token = fields.need("idToken", "MISSING_ID_TOKEN")
    duration_s = fields.integer("validDuration") or _SESSION_COOKIE_SECONDS_MAX
    if not _SESSION_COOKIE_SECONDS_MIN <= duration_s <= _SESSION_COOKIE_SECONDS_MAX:
        raise AuthError("INVALID_DURATION")
    try:
        return {"sessionCookie": project.tokens.mint_session_cookie(token, duration_s)}
    except InvalidToken as error:
        raise AuthError(f"INVALID_ID_TOKEN : {error.reason}") from error


def send_oob_code(project: Project, fields: Fields, *, privileged: bool, base_url: str) -> Answer:
    """accounts:sendOobCode: nothing is sent; the code is listed at /emulator/v1/projects/{p}/oobCodes.

    `returnOobLink`, for admins only, returns the link in the answer too.
    """
    returns_link = bool(fields.flag("returnOobLink"))
    if returns_link and not privileged:
        raise AuthError("INSUFFICIENT_PERMISSION")
    continue_url = fields.text("continueUrl")
    if continue_url is not None and not urlsplit(continue_url).netloc:
        raise AuthError("INVALID_CONTINUE_URI")
    wanted = fields.need("requestType", "MISSING_REQ_TYPE")
    mode = next((mode for mode, request_type in MODES.items() if request_type == wanted), None)
    if mode is None:
        raise AuthError(f"INVALID_REQ_TYPE : {wanted} is not supported by the embedded Auth.")
    answer: Answer = {"kind": "identitytoolkit#GetOobConfirmationCodeResponse"}
    email, new_email = _code_addresses(project, fields, MODES[mode], returns_link=returns_link)
    answer["email"] = email
    unknown = wanted == "PASSWORD_RESET" and project.accounts.by_email(email) is None
    if unknown and (privileged or not project.settings.improved_email_privacy):
        raise AuthError("EMAIL_NOT_FOUND")
    if unknown:
        return answer
    code = project.codes.new_code()
    query = {"mode": mode, "lang": "en", "oobCode": code, "apiKey": "embedded"}
    link = f"{base_url}/emulator/action?" + urlencode(query | ({"continueUrl": continue_url} if continue_url else {}))
    project.codes.add(ActionCode(code, MODES[mode], email, link, new_email))
    return answer | ({"oobCode": code, "oobLink": link} if returns_link else {})


def reset_password(project: Project, fields: Fields) -> Answer:
    """accounts:resetPassword: with newPassword it uses the code, without it only says what the code is for."""
    code = fields.need("oobCode", "MISSING_OOB_CODE")
    record = project.codes.look(code)
    new_password = fields.text("newPassword")
    if new_password is not None:
        user = project.accounts.by_email(record.email)
        if record.request_type != "PASSWORD_RESET" or user is None:
            raise AuthError("INVALID_OOB_CODE")
        password = hash_password(new_password)
        project.codes.use(code, "PASSWORD_RESET")
        user = project.accounts.update(user, password=password, email_verified=True)
        project.accounts.revoke_sessions(user, project.now_s())
    answer: Answer = {"kind": "identitytoolkit#ResetPasswordResponse", "requestType": record.request_type}
    if record.request_type != "EMAIL_SIGNIN":
        # A sign-in link does not tell its address: the person has to know it.
        answer["email"] = record.email
    return answer | ({"newEmail": record.new_email} if record.new_email else {})


def _profile_changes(user: User, fields: Fields) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name, ours in (("displayName", "display_name"), ("photoUrl", "photo_url")):
        if fields.has(name):
            changes[ours] = fields.text(name) or None
    email = fields.text("email")
    if email:
        changes["email"] = checked_email(email)
        if changes["email"] != user.email:
            changes["email_verified"] = False
    password = fields.text("password")
    if password is not None:
        changes["password"] = hash_password(password)
    for attribute in fields.texts("deleteAttribute"):
        changes |= _ATTRIBUTES.get(attribute, {})
    unlinked = fields.texts("deleteProvider")
    if "password" in unlinked:
        changes |= {**_ATTRIBUTES["EMAIL"], "password": None}
    if "phone" in unlinked:
        changes["phone_number"] = None
    linked = fields.object("linkProviderUserInfo")
    if linked is not None or any(name in user.providers for name in unlinked):
        providers = {name: data for name, data in user.providers.items() if name not in unlinked}
        changes["providers"] = providers | (_linked_provider(linked) if linked else {})
    return changes


def _privileged_changes(fields: Fields) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if fields.has("disableUser"):
        changes["disabled"] = bool(fields.flag("disableUser"))
    if fields.has("emailVerified"):
        changes["email_verified"] = bool(fields.flag("emailVerified"))
    phone_number = fields.text("phoneNumber")
    if phone_number:
        changes["phone_number"] = checked_phone(phone_number)
    claims = fields.text("customAttributes")
    if claims is not None:
        changes["custom_claims"] = parsed_claims(claims)
    return changes


def _linked_provider(linked: Fields) -> dict[str, dict[str, Any]]:
    identity: dict[str, Any] = {"rawId": linked.need("rawId", "MISSING_RAW_ID")}
    for name in ("email", "displayName", "photoUrl"):
        if linked.has(name):
            identity[name] = linked.text(name)
    return {linked.need("providerId", "MISSING_PROVIDER_ID"): identity}


def _clock_lead_s(project: Project) -> int:
    """How far the embedded clock was moved. Admin SDKs revoke "as of now" by the machine's clock, and mean ours."""
    return round((project.now_ms() - time.time_ns() // 1_000_000) / 1000)


def _updated(user: User) -> Answer:
    answer: Answer = {
        "kind": "identitytoolkit#SetAccountInfoResponse",
        "localId": user.uid,
        "emailVerified": user.email_verified,
        "providerUserInfo": providers_json(user),
    }
    optional = {"email": user.email, "displayName": user.display_name, "photoUrl": user.photo_url}
    return answer | {name: value for name, value in optional.items() if value is not None}


def _code_addresses(
    project: Project, fields: Fields, request_type: RequestType, *, returns_link: bool
) -> tuple[str, str | None]:
    """The address a code is for, and the new one if it changes it."""
    if request_type in ("EMAIL_SIGNIN", "PASSWORD_RESET"):
        return checked_email(fields.need("email", "MISSING_EMAIL")), None
    new_email: str | None = None
    if request_type == "VERIFY_AND_CHANGE_EMAIL":
        new_email = checked_email(fields.need("newEmail", "MISSING_NEW_EMAIL"), "INVALID_NEW_EMAIL")
        if project.accounts.by_email(new_email) is not None:
            raise AuthError("EMAIL_EXISTS")
    if returns_link and not fields.has("idToken"):
        email = canonical_email(fields.need("email", "MISSING_EMAIL"))
        if project.accounts.by_email(email) is None:
            raise AuthError("USER_NOT_FOUND")
        return email, new_email
    user, _ = project.signed_in(fields)
    if user.email is None:
        raise AuthError("MISSING_EMAIL")
    return user.email, new_email


def _apply_code(project: Project, code: str) -> User:
    record = project.codes.look(code)
    user = project.accounts.by_email(record.email)
    if user is None:
        raise AuthError("INVALID_OOB_CODE")
    project.codes.use(code, "VERIFY_EMAIL", "VERIFY_AND_CHANGE_EMAIL")
    if record.new_email is None:
        return project.accounts.update(user, email_verified=True)
    user = project.accounts.update(user, email=record.new_email, email_verified=True)
    return project.accounts.revoke_sessions(user, project.now_s())
