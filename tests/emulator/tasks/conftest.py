"""One running fixture app for all tests of the folder."""

from support.functions_harness import functions, running

__all__ = ["functions", "running"]
