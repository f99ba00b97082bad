"""Every Cloud Function of Concierge: a decorator, one lazy import, one call.

Each function loads this file, so it imports nothing but the triggers themselves. Handlers are synchronous: the Python
runtime never awaits an `async def` one.
"""

from firebase_functions import db_fn, firestore_fn, https_fn, options, params, scheduler_fn

REGION = "us-central1"
LEDGER_SIGNING_KEY = params.SecretParam("LEDGER_SIGNING_KEY")
CHECKPOINT_SIGNING_KEY = params.SecretParam("CHECKPOINT_SIGNING_KEY")
IDENTITY_HASH_KEY = params.SecretParam("IDENTITY_HASH_KEY")
AI_PLATFORM_API_KEY = params.SecretParam("AI_PLATFORM_API_KEY")

options.set_global_options(region=REGION, memory=options.MemoryOption.MB_512)


@db_fn.on_value_created(
    reference="/requests/{uid}/{requestId}",
    timeout_sec=540,
    concurrency=40,
    cpu=1,
    secrets=[LEDGER_SIGNING_KEY, IDENTITY_HASH_KEY, AI_PLATFORM_API_KEY],
)
def request_created(event: db_fn.Event[object]) -> None:
    """A client asks for something."""
    from concierge.entrypoints.assistant import serve_request

    serve_request(event.params["uid"], event.params["requestId"], event.data)


@db_fn.on_value_created(reference="/devices/{uid}/{deviceId}", secrets=[LEDGER_SIGNING_KEY, IDENTITY_HASH_KEY])
def device_created(event: db_fn.Event[object]) -> None:
    """A client of a person appears for the first time: the account opens with the welcome bonus."""
    from concierge.entrypoints.credits import welcome

    welcome(event.params["uid"])


@firestore_fn.on_document_written(document="accounts/{uid}")
def account_written(event: firestore_fn.Event[firestore_fn.Change[firestore_fn.DocumentSnapshot | None]]) -> None:
    """The ledger moved: the mirror follows."""
    from concierge.entrypoints.credits import mirror_account

    mirror_account(event.params["uid"], event.data.after)


@scheduler_fn.on_schedule(
    schedule="every 1 minutes",
    timeout_sec=540,
    secrets=[LEDGER_SIGNING_KEY, IDENTITY_HASH_KEY, AI_PLATFORM_API_KEY],
)
def sweep(event: scheduler_fn.ScheduledEvent) -> None:
    """Ends what was left behind."""
    from concierge.entrypoints import assistant

    assistant.sweep()


@scheduler_fn.on_schedule(schedule="every 5 minutes", timeout_sec=540, secrets=[CHECKPOINT_SIGNING_KEY])
def checkpoint(event: scheduler_fn.ScheduledEvent) -> None:
    """Signs the heads of the accounts that have changed, for everybody to check."""
    from concierge.entrypoints import checkpoints

    checkpoints.publish()


@scheduler_fn.on_schedule(schedule="every 5 minutes", timeout_sec=540)
def mirror_repair(event: scheduler_fn.ScheduledEvent) -> None:
    """Finds balances that do not show what the ledger says."""
    from concierge.entrypoints.credits import repair_mirrors

    repair_mirrors()


@scheduler_fn.on_schedule(schedule="every 5 minutes", timeout_sec=540)
def usage_rollup(event: scheduler_fn.ScheduledEvent) -> None:
    """What people used becomes part of what all did."""
    from concierge.entrypoints import usage

    usage.roll_up()


@scheduler_fn.on_schedule(schedule="every 10 minutes", timeout_sec=540, secrets=[LEDGER_SIGNING_KEY])
def validate(event: scheduler_fn.ScheduledEvent) -> None:
    """Compares what is stored with what the entries of the ledger say."""
    from concierge.entrypoints import integrity

    integrity.validate()


@scheduler_fn.on_schedule(schedule="every 15 minutes", timeout_sec=540, secrets=[LEDGER_SIGNING_KEY])
def backup(event: scheduler_fn.ScheduledEvent) -> None:
    """Saves new entries to Cloud Storage."""
    from concierge.entrypoints import integrity

    integrity.backup()


@https_fn.on_request(secrets=[LEDGER_SIGNING_KEY, CHECKPOINT_SIGNING_KEY, IDENTITY_HASH_KEY])
def api(request: https_fn.Request) -> https_fn.Response:
    """Everything under /api."""
    from concierge.entrypoints import http

    return http.answer(request)
