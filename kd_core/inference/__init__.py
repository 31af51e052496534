"""What asks any model in PyTorch: every exit of a student, a teacher's probabilities."""
