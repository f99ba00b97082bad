"""What the functions in main.py call: the step from an event's values to a feature with its dependencies.

One module for each set of imports: a function that mirrors balances must not pay for the assistant's.
"""
