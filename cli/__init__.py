"""The `concierge` command."""
