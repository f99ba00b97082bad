"""Integrity: what is stored is compared with what the entries say, all the time; damage is named, contained, repaired.

replay       what the entries of an account imply for everything that is derived from them, pure
progress     how far an account was verified, as a sealed document, pure
anomalies    what is valid and yet unusual, pure
repository   the Firestore documents
examination  one account, read as of one moment and verified
alerts       damage and anomalies are reported once
validation   the scheduled work: what has changed, and all else in turns
backups      the signed entries in Cloud Storage
repair       derived state by replay, entries from the backup
service      what operators and the API ask for
"""
