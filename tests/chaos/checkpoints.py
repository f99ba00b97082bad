"""Published checkpoints against the accounts, from the stored documents alone."""

import json
from collections.abc import Iterator, Mapping

from chaos.books import Books
from chaos.documents import Documents


def audit_checkpoints(books: Mapping[str, Books], documents: Documents, *, is_settled: bool) -> Iterator[str]:
    """Each checkpoint is balanced and continues the one before; each leaf is an entry that its account has, with the
    balance that the account had there. With `is_settled`, the leaves are the newest entries."""
    size = 0
    for number, path in enumerate(sorted(path for path in documents if path.startswith("checkpoints/")), start=1):
        record = documents[path]
        totals = record["totals"]
        if (record["number"], record["first"]) != (number, size) or record["size"] <= size:
            yield f"{path} does not continue the one before: {dict(record)}"
        if not record["balanced"] or totals["posted"] + sum(totals["counters"].values()):
            yield f"{path} is not balanced: {totals}"
        if totals["counters"].get("account", 0):
            yield f"{path} has half a transfer"
        if is_settled and record.get("note") is None:
            yield f"{path} was never published"
        size = record["size"]
    for uid, account in books.items():
        leaf = documents.get(f"leaves/{uid}")
        if leaf is None:
            if is_settled and account.entries:
                yield f"{uid} is in no checkpoint"
            continue
        line = json.loads(leaf["leaf"].split(" ", 2)[2])
        seq = line["seq"]
        if seq > len(account.entries) or account.entries[seq - 1].hash != line["hash"]:
            yield f"the leaf of {uid} is no entry of its account: {line}"
        elif (line["posted"], line["counters"]) != (account.states[seq].posted, dict(account.states[seq].counters)):
            yield f"the leaf of {uid} has another balance: {line}"
        elif is_settled and seq < len(account.entries):
            yield f"the leaf of {uid} is entry {seq}, the newest is {len(account.entries)}"
