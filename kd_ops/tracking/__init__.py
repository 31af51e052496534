"""A run in MLflow: its params, metrics and stages."""
