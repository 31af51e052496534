"""kd_core: distillation as a library: data, tasks, models, losses, stages, inference, evaluation.

Knows nothing of Airflow, DVC, MLflow or S3, and is usable alone from a notebook.
"""
