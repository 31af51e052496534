"""Measurements of the project against its baselines and its peers; each module is one command."""
