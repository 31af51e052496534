"""A run's student becomes a registered version."""
