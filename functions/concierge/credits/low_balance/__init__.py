"""Low balances: told once for each time that a balance falls below its threshold.

crossings       the state and its transitions (pure)
recommendation  burn, days left, what to top up (pure)
service         the state in the database, the announcement
"""
