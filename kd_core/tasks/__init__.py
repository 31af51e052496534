"""What differs between tasks, by aspect: encode, decode, loss and metrics are separate rooms with no shared imports."""
