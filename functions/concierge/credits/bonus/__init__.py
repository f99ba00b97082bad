"""The welcome bonus: once a person, not once an account.

identity     who somebody is, as keyed hashes, pure
scoring      what speaks against a grant, pure
people       what Auth and the Realtime Database know of somebody
repository   claims, velocities and reviews in Firestore
service      the claim and its grant, in one commit
reviews      what administrators decide of withheld bonuses
"""
