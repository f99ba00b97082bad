"""Concierge: a serverless AI-assistant backend on Firebase."""
