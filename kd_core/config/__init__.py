"""Typed, frozen parameters: one module for each part of params.yaml, so that a stage depends on its own only."""
