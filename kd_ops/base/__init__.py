"""What every operation stands on: settings, documents, locks, redaction of secrets, how a process starts and ends."""
