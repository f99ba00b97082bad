"""Switches tracing on in the processes of a traced stack: Python runs a module of this name at its start.

`bench.environment` puts this folder on PYTHONPATH of those processes, and of no others.
"""

import os

_MARKS = os.environ.get("CONCIERGE_BENCH_MARKS")
if _MARKS:
    from bench.tracing import install

    install(_MARKS)
