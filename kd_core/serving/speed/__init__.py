"""The cost of the graphs on this machine, and whether exits pay."""
