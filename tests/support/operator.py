"""Commands as operators run them: with the settings of the deployment that is under test."""

import os
import subprocess
import sys

from support.backend import CHECKPOINT_KEY, IDENTITY_KEY, SIGNING_KEY, Backend

COMMAND = [sys.executable, "-m", "cli.main", "ledger"]


def ledger_command(backend: Backend, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`concierge ledger ...` on the backend's databases."""
    settings = {
        "LEDGER_SIGNING_KEY": SIGNING_KEY,
        "CHECKPOINT_SIGNING_KEY": CHECKPOINT_KEY,
        "IDENTITY_HASH_KEY": IDENTITY_KEY,
    }
    environment = {**os.environ, **backend.stack.environment, **settings}
    return subprocess.run([*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False)
