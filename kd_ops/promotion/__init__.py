"""A registered version becomes champion, or does not: the gate, its evidence, the ledger."""
