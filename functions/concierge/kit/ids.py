"""Ids that clients choose."""

import re

# The id names a Firestore document too, where names of the form __x__ are reserved. database.rules.json says the same.
REQUEST_ID = re.compile(r"[A-Za-z0-9-][A-Za-z0-9_-]{0,127}")
