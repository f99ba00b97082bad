"""The accounts of one project: pure state with its indices, written through to the store.

Each change is one synchronous call and one atomic write of rows: `user/{uid}` and `refresh/{token}`.
"""

import json
import re
import secrets
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from emulator.auth.errors import AuthError
from emulator.auth.passwords import PasswordHash
from emulator.persistence import Store

_SERVICE = "auth"
_UID_LENGTH = 28
_UID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_PHONE = re.compile(r"\+[1-9]\d{4,19}")


@dataclass(frozen=True, slots=True)
class User:
    """One account. Times: `*_ms` since the epoch; `valid_since_s` is the second before which tokens are revoked.

    `providers` holds federated identities only, by provider id: {rawId, email?, displayName?, photoUrl?}; password and
    phone are derived from the other fields.
    """

    uid: str
    created_at_ms: int
    email: str | None = None
    email_verified: bool = False
    display_name: str | None = None
    photo_url: str | None = None
    phone_number: str | None = None
    disabled: bool = False
    password: PasswordHash | None = None
    email_link: bool = False
    custom_auth: bool = False
    custom_claims: dict[str, Any] = field(default_factory=dict)
    providers: dict[str, dict[str, Any]] = field(default_factory=dict)
    valid_since_s: int = 0
    last_login_at_ms: int | None = None
    last_refresh_at_ms: int | None = None

    def provider_ids(self) -> list[str]:
        """Every way to sign in to this account; empty for an anonymous one."""
        ids = list(self.providers)
        if self.email is not None and (self.password is not None or self.email_link):
            ids.append("password")
        if self.phone_number is not None:
            ids.append("phone")
        return ids

    def identities(self) -> dict[str, list[str]]:
        """The `firebase.identities` claim: what is known of the person, by kind."""
        identities = {provider: [str(data["rawId"])] for provider, data in self.providers.items()}
        if self.email is not None:
            identities["email"] = [self.email]
        if self.phone_number is not None:
            identities["phone"] = [self.phone_number]
        return identities

    def as_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__ if name != "password"}
        row["password"] = self.password.as_row() if self.password else None
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "User":
        password = row.pop("password")
        return cls(**row, password=PasswordHash.from_row(password) if password else None)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What a sign-in leaves behind, so that later ID tokens carry the same session.

    A revoked one is kept, because clients are told that their session ended, not that their token is unknown.
    """

    uid: str
    provider: str
    auth_time_s: int
    claims: dict[str, Any]
    revoked: bool = False


class Accounts:
    """All users by uid, e-mail, phone, federated identity and refresh token. Raises AuthError on conflicts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._users: dict[str, User] = {}
        self._uids: list[str] | None = None
        self._owners: dict[tuple[str, str], str] = {}
        self._refresh: dict[str, RefreshToken] = {}
        self._tokens_of: dict[str, set[str]] = {}
        for key, value in store.rows(_SERVICE):
            kind, _, name = key.partition("/")
            if kind == "user":
                user = User.from_row(json.loads(value))
                self._users[name] = user
                self._owners.update(dict.fromkeys(_unique_keys(user), name))
            elif kind == "refresh":
                self._remember(name, RefreshToken(**json.loads(value)))

    def get(self, uid: str) -> User | None:
        return self._users.get(uid)

    def by_email(self, email: str) -> User | None:
        return self._owned(("email", canonical_email(email)))

    def by_phone(self, phone_number: str) -> User | None:
        return self._owned(("phone", phone_number))

    def by_provider(self, provider: str, raw_id: str) -> User | None:
        return self._owned((f"provider:{provider}", raw_id))

    def page(self, after: str, limit: int) -> tuple[list[User], str]:
        """Users in the order of their uids after that one, and the token of the next page, "" if there is none."""
        if self._uids is None:
            self._uids = sorted(self._users)
        start = bisect_right(self._uids, after)
        uids = self._uids[start : start + limit]
        more = start + limit < len(self._uids)
        return [self._users[uid] for uid in uids], uids[-1] if more and uids else ""

    def __len__(self) -> int:
        return len(self._users)

    def __iter__(self) -> Iterator[User]:
        return iter(self._users.values())

    def create(self, user: User) -> User:
        """Adds a user. Raises DUPLICATE_LOCAL_ID, EMAIL_EXISTS, PHONE_NUMBER_EXISTS or FEDERATED_USER_ID_..."""
        if user.uid in self._users:
            raise AuthError("DUPLICATE_LOCAL_ID")
        self._uids = None
        return self._put(user, None)

    def update(self, user: User, **changes: Any) -> User:
        """Stores a changed version of a known user. Raises as create does, and USER_NOT_FOUND."""
        current = self._users.get(user.uid)
        if current is None:
            raise AuthError("USER_NOT_FOUND")
        return self._put(replace(current, **changes), current)

    def overwrite(self, user: User) -> User:
        """Stores a user as given, whether it existed or not."""
        current = self._users.get(user.uid)
        return self.create(user) if current is None else self._put(user, current)

    def revoke_sessions(self, user: User, valid_since_s: int) -> User:
        """Ends the sessions begun until that second, and makes ID tokens issued before it invalid."""
        updated = replace(self._users[user.uid], valid_since_s=valid_since_s)
        rows = self._revoke_refresh_tokens(user.uid, valid_since_s)
        self._users[user.uid] = updated
        self._store.write(_SERVICE, {**rows, f"user/{user.uid}": _encode(updated.as_row())})
        return updated

    def delete(self, user: User) -> None:
        """Removes a user; the refresh tokens stay as revoked, so that their holders learn what happened."""
        rows = self._revoke_refresh_tokens(user.uid, None)
        for key in _unique_keys(self._users.pop(user.uid)):
            del self._owners[key]
        self._uids = None
        self._store.write(_SERVICE, {**rows, f"user/{user.uid}": None})

    def clear(self) -> None:
        """Removes all users and sessions."""
        for index in (self._users, self._owners, self._refresh, self._tokens_of):
            index.clear()
        self._uids = None
        self._store.write(_SERVICE, {}, drop_prefixes=("user/", "refresh/"))

    def open_session(self, session: RefreshToken) -> str:
        """Stores a session and returns its new refresh token."""
        token = secrets.token_urlsafe(48)
        self._remember(token, session)
        if self._store.durable:
            self._store.write(_SERVICE, {f"refresh/{token}": _encode(_token_row(session))})
        return token

    def session(self, refresh_token: str) -> RefreshToken | None:
        return self._refresh.get(refresh_token)

    def _revoke_refresh_tokens(self, uid: str, until_s: int | None) -> dict[str, bytes | None]:
        """Marks those of sessions begun until then (None: all of them) in memory, and returns the rows to write."""
        rows: dict[str, bytes | None] = {}
        for token in self._tokens_of.get(uid, ()):
            session = self._refresh[token]
            if not session.revoked and (until_s is None or session.auth_time_s <= until_s):
                self._refresh[token] = replace(session, revoked=True)
                rows[f"refresh/{token}"] = _encode(_token_row(self._refresh[token]))
        return rows

    def _remember(self, token: str, session: RefreshToken) -> None:
        self._refresh[token] = session
        self._tokens_of.setdefault(session.uid, set()).add(token)

    def _owned(self, key: tuple[str, str]) -> User | None:
        uid = self._owners.get(key)
        return None if uid is None else self._users[uid]

    def _put(self, user: User, current: User | None) -> User:
        keys = _unique_keys(user)
        for key in keys:
            if self._owners.get(key, user.uid) != user.uid:
                raise AuthError(_CONFLICTS.get(key[0], "FEDERATED_USER_ID_ALREADY_LINKED"))
        for key in _unique_keys(current) if current else ():
            del self._owners[key]
        self._owners.update(dict.fromkeys(keys, user.uid))
        self._users[user.uid] = user
        if self._store.durable:
            self._store.write(_SERVICE, {f"user/{user.uid}": _encode(user.as_row())})
        return user


_CONFLICTS = {"email": "EMAIL_EXISTS", "phone": "PHONE_NUMBER_EXISTS"}


def new_uid() -> str:
    """28 letters and digits, as Firebase makes them."""
    return "".join(secrets.choice(_UID_ALPHABET) for _ in range(_UID_LENGTH))


def canonical_email(email: str) -> str:
    """Addresses differ only if they differ in lower case, as in Firebase."""
    return email.lower()


def checked_email(email: str, code: str = "INVALID_EMAIL") -> str:
    """The canonical form of a well-formed address. Raises AuthError(code)."""
    if not _EMAIL.fullmatch(email) or len(email) > 256:
        raise AuthError(code)
    return canonical_email(email)


def checked_phone(phone_number: str) -> str:
    """An E.164 number. Raises AuthError."""
    if not _PHONE.fullmatch(phone_number):
        raise AuthError("INVALID_PHONE_NUMBER : Invalid format.")
    return phone_number


def _unique_keys(user: User) -> list[tuple[str, str]]:
    keys = [(f"provider:{provider}", str(data["rawId"])) for provider, data in user.providers.items()]
    if user.email is not None:
        keys.append(("email", user.email))
    if user.phone_number is not None:
        keys.append(("phone", user.phone_number))
    return keys


def _token_row(session: RefreshToken) -> dict[str, Any]:
    return {name: getattr(session, name) for name in session.__slots__}


def _encode(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode()
