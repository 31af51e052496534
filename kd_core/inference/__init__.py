"""Inference: early exits by normalised entropy, their threshold, and predictions for texts and files."""
