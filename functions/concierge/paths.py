"""Every Realtime Database path and Firestore collection. Nothing else spells them out.

RTDB is what clients see (camelCase); Firestore is where money is decided. See docs/ARCHITECTURE.md for the contract.
"""

from urllib.parse import quote

# Realtime Database: written by clients.
REQUESTS = "requests"
CANCELLATIONS = "cancellations"
DEVICES = "devices"
PREFERENCES = "preferences"
# Realtime Database: read by clients.
NOTIFICATIONS = "notifications"
RESPONSES = "responses"
BALANCES = "balances"
# Realtime Database: server only. Keys are `{uid}~{requestId}`: no request id holds a `~`.
CHUNK_CLEANUP = "housekeeping/chunks"
SETTLEMENTS = "housekeeping/settlements"
MIRROR_REVIEWS = "housekeeping/mirrorReviews"
LOW_BALANCES = "housekeeping/lowBalance"
EVENTS = "events"

# Firestore.
ACCOUNTS = "accounts"
ENTRIES = "entries"
OPS = "ops"
HOLDS = "holds"
HOUSEKEEPING = "housekeeping"
IDEMPOTENCY = "idempotency"
BONUS_CLAIMS = "bonusClaims"
BONUS_VELOCITY = "bonusVelocity"
BONUS_REVIEWS = "bonusReviews"
CHECKPOINTS = "checkpoints"
LEAVES = "leaves"
USAGE = "usage"
USAGE_ROLLUP = "usageRollup"
USAGE_OVERALL = "usageOverall"
VALIDATIONS = "validations"
BACKUPS = "backups"
INTEGRITY_REPORTS = "integrityReports"
INTEGRITY_ALERTS = "integrityAlerts"
INTEGRITY_REPAIRS = "integrityRepairs"

# Cloud Storage.
CHECKPOINT_OBJECTS = "checkpoints"
_LEAF_FILES = f"{CHECKPOINT_OBJECTS}/leaves"
_BACKUP_FILES = f"{BACKUPS}/entries"


def request(uid: str, request_id: str) -> str:
    return f"{REQUESTS}/{uid}/{request_id}"


def cancellation(uid: str, request_id: str) -> str:
    return f"{CANCELLATIONS}/{uid}/{request_id}"


def response(uid: str, request_id: str) -> str:
    return f"{RESPONSES}/{uid}/{request_id}"


def balance(uid: str) -> str:
    return f"{BALANCES}/{uid}"


def mirror_review(uid: str) -> str:
    return f"{MIRROR_REVIEWS}/{uid}"


def preference(uid: str, name: str) -> str:
    return f"{PREFERENCES}/{uid}/{name}"


def low_balance(uid: str) -> str:
    return f"{LOW_BALANCES}/{uid}"


def notification(uid: str, notification_id: str) -> str:
    return f"{NOTIFICATIONS}/{uid}/{notification_id}"


def event(event_id: str) -> str:
    return f"{EVENTS}/{event_id}"


def chunk_cleanup(uid: str, request_id: str) -> str:
    return f"{CHUNK_CLEANUP}/{uid}~{request_id}"


def settlement(uid: str, request_id: str) -> str:
    return f"{SETTLEMENTS}/{uid}~{request_id}"


def leaf_file(number: int, digest: str) -> str:
    """The leaves that a checkpoint added; `digest` is the SHA-256 of the file."""
    return f"{_LEAF_FILES}/{number:012d}-{digest}.jsonl"


def tile(path: str) -> str:
    """A tile of the checkpoints' tree, by its path within the tree."""
    return f"{CHECKPOINT_OBJECTS}/{path}"


def backups_of(uid: str) -> str:
    """What the names of all backup files of an account begin with."""
    return f"{_BACKUP_FILES}/{quote(uid, safe='')}/"


def backup_file(uid: str, first: int, last: int, last_hash: str, digest: str) -> str:
    """The entries `first` to `last` of an account; `last_hash` is the last one's, `digest` the SHA-256 of the file."""
    return f"{backups_of(uid)}{first:012d}-{last:012d}-{last_hash}-{digest}.jsonl"


def as_url(path: str) -> str:
    """A path for a URL, each key encoded: a user id may hold a `%` or a `?`. Keys of an update are no URLs."""
    return "/".join(quote(key, safe="") for key in path.split("/"))


def split_server_key(key: str) -> tuple[str, str]:
    """`{uid}~{requestId}` -> (uid, request id)."""
    uid, _, request_id = key.rpartition("~")
    return uid, request_id
