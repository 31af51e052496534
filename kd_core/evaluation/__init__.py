"""Evaluation: quality with intervals, speed, comparison of two models, and the report that shows them.

`comparison` and `intervals` need numpy alone, so that the promotion gate can use them without loading a model.
"""
