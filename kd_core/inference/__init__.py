"""Inference: early exits by normalised entropy, their dial, predictions for texts and files, and their log."""
