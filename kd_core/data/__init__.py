"""Data sets: sources, near-duplicate groups, splits that stay, and validation."""
