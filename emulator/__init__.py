"""The embedded Firebase: one process that official clients cannot tell from the real services. Never deployed."""
