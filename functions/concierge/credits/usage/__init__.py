"""What was used: counted in the commit that ends a request, and summed up over all accounts afterwards.

cells           counters by month, day, kind and model (pure)
recorder        the counters of one end, beside its entry in the ledger
reconciliation  costs that were counted against revenue in the ledger (pure)
repository      the documents
rollup          what changed of people's months, into the months of all, exactly once
analytics       totals, groups, averages and shares (pure)
service         questions: analytics, burn, export
"""
