"""What every room needs from its surroundings: errors with exit codes, storage, progress, fingerprints."""
