"""The credit ledger: one append-only, hash-chained and signed list of entries for each account.

transfers     the rules, pure: a head and a transfer give the next head, or a refusal
entries       canonical bytes, hash and chain of one entry, pure
signatures    Ed25519 keys with ids, rotation
verification  replays a chain and names what is wrong with it, pure
repository    the Firestore documents
service       the operations, each one transaction
timeline      where moments lie in a chain
audit         what happened in a range of time, and whether it adds up; audit_sums and audit_report, pure
"""
