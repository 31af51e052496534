"""What the graphs cost on this machine, and what follows for exits."""
