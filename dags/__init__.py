"""Airflow DAGs: one for each recipe. They import Airflow only; every task starts a process of kd_ops."""
