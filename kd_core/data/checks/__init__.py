"""Validation of a data set: Great Expectations suites, what they found, and its pages."""
