#!/bin/sh
# The stack of compose.yaml on this machine: stack.sh up|serve|down. `serve` adds the champion of KD_MODEL (default
# models:/kd-route@champion) at http://127.0.0.1:8081; `down` keeps the volumes.
set -eu
cd "$(dirname "$0")/.."
[ -f .kd/images.env ] || { echo "there are no images yet: make images" >&2; exit 64; }
export KD_SECRETS_FOLDER="$PWD/docker/secrets"
export DOCKER_GROUP="$(stat -c %g "${DOCKER_SOCKET:-/var/run/docker.sock}" 2>/dev/null || echo 0)"
python3 docker/make_secrets.py "$KD_SECRETS_FOLDER"
compose="docker compose --project-name kd-pipelines --env-file .kd/images.env --file docker/compose.yaml"
case ${1:-} in
  up) $compose up --detach --wait && echo "Airflow: http://127.0.0.1:8080   MLflow: http://127.0.0.1:5000" ;;
  serve) $compose --profile serving up --detach --wait serving && echo "serving: http://127.0.0.1:8081/invocations" ;;
  down) $compose --profile serving down ;;
  *) echo "stack.sh up|serve|down" >&2; exit 64 ;;
esac
