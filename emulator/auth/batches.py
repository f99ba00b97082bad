"""The admin's operations on many accounts: list, import, delete. Operations as in sign_in.py."""

from typing import Any

from emulator.auth.accounts import User, checked_email, checked_phone
from emulator.auth.errors import AuthError, Fields
from emulator.auth.passwords import imported_hash
from emulator.auth.project import Answer, Project, parsed_claims, user_json

_BATCH_MAX = 1000
_PAGE_DEFAULT = 20


def batch_get(project: Project, fields: Fields) -> Answer:
    """accounts:batchGet: users in the order of their uids; `nextPageToken` is the last uid of the page before."""
    limit = fields.integer("maxResults") or _PAGE_DEFAULT
    if not 0 < limit <= _BATCH_MAX:
        raise AuthError(f"INVALID_PAGE_SELECTION : maxResults must be from 1 to {_BATCH_MAX}.")
    users, next_page_token = project.accounts.page(fields.text("nextPageToken") or "", limit)
    answer: Answer = {
        "kind": "identitytoolkit#DownloadAccountResponse",
        "users": [user_json(user, with_password_hash=True) for user in users],
    }
    return answer | ({"nextPageToken": next_page_token} if next_page_token else {})


def batch_create(project: Project, fields: Fields) -> Answer:
    """accounts:batchCreate: imports users, replacing those with the same uid; failures are listed by index."""
    users = fields.objects("users")
    if not 0 < len(users) <= _BATCH_MAX:
        raise AuthError("MISSING_USER_ACCOUNT" if not users else "USER_COUNT_EXCEEDS_LIMIT")
    errors: list[Answer] = []
    for index, user in enumerate(users):
        try:
            project.accounts.overwrite(_imported_user(project, fields, user))
        except AuthError as error:
            errors.append({"index": index, "message": error.message})
    return {"kind": "identitytoolkit#UploadAccountResponse", "error": errors}


def batch_delete(project: Project, fields: Fields) -> Answer:
    """accounts:batchDelete: unknown users count as deleted; enabled ones only with `force`."""
    uids = fields.texts("localIds")
    if not 0 < len(uids) <= _BATCH_MAX:
        raise AuthError("LOCAL_ID_LIST_EXCEEDS_LIMIT")
    errors: list[Answer] = []
    for index, uid in enumerate(uids):
        user = project.accounts.get(uid)
        if user is None:
            continue
        if user.disabled or fields.flag("force"):
            project.accounts.delete(user)
        else:
            message = "NOT_DISABLED : Disable the account before batch deletion."
            errors.append({"index": index, "localId": uid, "message": message})
    return {"errors": errors} if errors else {}


def _imported_user(project: Project, request: Fields, fields: Fields) -> User:
    email, phone_number = fields.text("email"), fields.text("phoneNumber")
    claims = fields.text("customAttributes")
    now_ms = project.now_ms()
    return User(
        uid=fields.need("localId", "INVALID_LOCAL_ID : localId is missing"),
        created_at_ms=fields.integer("createdAt") or now_ms,
        last_login_at_ms=fields.integer("lastLoginAt"),
        valid_since_s=now_ms // 1000,
        email=None if email is None else checked_email(email),
        email_verified=bool(fields.flag("emailVerified")),
        display_name=fields.text("displayName"),
        photo_url=fields.text("photoUrl"),
        phone_number=None if phone_number is None else checked_phone(phone_number),
        disabled=bool(fields.flag("disabled")),
        password=imported_hash(request, fields) if fields.has("passwordHash") else None,
        custom_claims={} if claims is None else parsed_claims(claims),
        providers=_imported_providers(fields),
    )


def _imported_providers(fields: Fields) -> dict[str, dict[str, Any]]:
    providers: dict[str, dict[str, Any]] = {}
    for info in fields.objects("providerUserInfo"):
        provider = info.need("providerId", "INVALID_PROVIDER_ID")
        if provider in ("password", "phone"):
            continue  # derived from the password and the phone number
        identity: dict[str, Any] = {"rawId": info.need("rawId", "MISSING_RAW_ID")}
        identity |= {name: info.text(name) for name in ("email", "displayName", "photoUrl") if info.has(name)}
        providers[provider] = identity
    return providers
