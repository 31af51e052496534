"""Airflow DAGs: one for each recipe. Airflow only; every task starts a process of kd_ops."""
