"""Version 1, under /api/v1."""
