"""Checkpoints: a signed Merkle tree over the heads of accounts: nobody rewrites history unnoticed, not even we.

merkle      the tree of RFC 6962, its proofs and their verification (RFC 9162), pure
tiles       how its hashes are stored: C2SP tlog-tiles, pure
notes       C2SP signed notes and checkpoints, pure
leaves      what a leaf is, and the files that hold them, pure
receipts    the proof that a person keeps of one entry, and its verification offline, pure
repository  the Firestore documents
publisher   the scheduled work: decides a checkpoint, stores it, signs it
service     what is asked about checkpoints: receipts, proofs, published notes
"""
