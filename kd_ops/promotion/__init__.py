"""Decides whether a registered version becomes champion: the gate, its evidence, the ledger."""
