"""Benchmarks: the budgets of the design, each measured beside its floor in one run. `make bench`."""
