"""Distillation: the stages that train, written over rows, scores and models, all on one training loop."""
