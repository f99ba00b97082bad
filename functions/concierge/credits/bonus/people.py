"""What Auth and the Realtime Database know of a person, as hashes."""

from dataclasses import dataclass, field

from firebase_admin import App, auth, db
from firebase_admin import exceptions as firebase_exceptions

from concierge import paths
from concierge.credits.bonus.identity import IdentityHasher, network_of, normalise_email
from concierge.errors import Unavailable

# Sign-in methods that say nothing of a person beyond what the record itself holds.
_OWN_METHODS = frozenset({"password", "anonymous", "emailLink", "phone", "custom", "firebase"})
_DEVICES_MAX = 20


@dataclass(frozen=True, slots=True)
class Person:
    """`identities` are hashes of mailboxes, providers' ids and telephone numbers, `devices` of fingerprints and device
    ids. `network` and `domain` are those by which velocities are counted, None if there are none to count by."""

    uid: str
    exists: bool = True
    identities: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    has_email: bool = False
    email_verified: bool = False
    disposable: bool = False
    network: str | None = None
    domain: str | None = field(default=None)


class People:
    """Looks people up."""

    def __init__(self, app: App, hasher: IdentityHasher) -> None:
        self._app = app
        self._hash = hasher

    def find(self, uid: str, address: str | None) -> Person:
        """Raises Unavailable. `address` is the IP address of the call, None where there is none."""
        try:
            user = auth.get_user(uid, self._app)
        except auth.UserNotFoundError:
            return Person(uid, exists=False)
        except (firebase_exceptions.FirebaseError, ValueError) as error:
            raise Unavailable("The identity service does not answer at the moment.") from error
        identities: set[str] = set()
        addresses = [user.email, *(info.email for info in user.provider_data)]
        mailboxes = [found for text in addresses if text and (found := normalise_email(text)) is not None]
        identities |= {self._hash("email", found.mailbox) for found in mailboxes}
        for info in user.provider_data:
            if info.provider_id not in _OWN_METHODS and info.uid:
                identities.add(self._hash("provider", f"{info.provider_id}:{info.uid}"))
        if user.phone_number:
            identities.add(self._hash("phone", user.phone_number))
        network = network_of(address)
        own = next((found for found in mailboxes if not found.is_public), None)
        return Person(
            uid,
            identities=frozenset(identities),
            devices=self._devices(uid),
            has_email=bool(mailboxes),
            email_verified=bool(user.email_verified) or any(_vouched(info.provider_id) for info in user.provider_data),
            disposable=any(found.is_disposable for found in mailboxes),
            network=self._hash("network", network) if network is not None else None,
            domain=self._hash("domain", own.domain) if own is not None else None,
        )

    def _devices(self, uid: str) -> frozenset[str]:
        found = (
            db.reference(paths.as_url(f"{paths.DEVICES}/{uid}"), self._app)
            .order_by_key()
            .limit_to_first(_DEVICES_MAX)
            .get()
        )
        hashes: set[str] = set()
        for device_id, device in (found or {}).items():
            hashes.add(self._hash("device", device_id))
            fingerprint = device.get("fingerprint") if isinstance(device, dict) else None
            if isinstance(fingerprint, str) and fingerprint:
                hashes.add(self._hash("device", f"fingerprint:{fingerprint}"))
        return frozenset(hashes)


def _vouched(provider_id: str) -> bool:
    """Whether a provider has verified the person itself."""
    return provider_id not in _OWN_METHODS
