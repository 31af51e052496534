"""Measurement of the models' speed on this machine."""
