#!/bin/sh
# PostgreSQL's image runs this once, on an empty volume: a database for Airflow and one for MLflow.
set -eu
for name in airflow mlflow; do
  psql --username "$POSTGRES_USER" --command "CREATE DATABASE $name"
done
