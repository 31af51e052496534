"""Near-duplicate groups, the splits they are assigned to, and the ledger that remembers them."""
