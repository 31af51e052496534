"""What asks any model in PyTorch: rows as batches, and every exit of a student."""
