"""The journey of one request: flow.py owns all branching, the other modules are its steps."""
