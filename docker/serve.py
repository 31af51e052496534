"""Serves one registered version over HTTP: KD_MODEL names it, as models:/NAME@champion.

It listens on port 8080, or KD_PORT. `GET /ping` tells whether it is up; `POST /invocations` answers what `mlflow models
serve` does. The version brings its own code. A new champion is served after a restart.
"""

import os
import sys
import tempfile

import mlflow.artifacts
import mlflow.pyfunc
import uvicorn
from mlflow.pyfunc import scoring_server

PORT = int(os.environ.get("KD_PORT", "8080"))

model = os.environ.get("KD_MODEL")
if not model:
    print("error: KD_MODEL is not set: name a registered version, as models:/NAME@champion", file=sys.stderr)
    sys.exit(64)
# A folder of its own: of a version in a folder that is mounted here MLflow makes no copy, and then writes into it.
folder = mlflow.artifacts.download_artifacts(artifact_uri=model, dst_path=tempfile.mkdtemp())
app = scoring_server.init(mlflow.pyfunc.load_model(folder))
uvicorn.run(app, host="0.0.0.0", port=PORT, log_level="warning")  # noqa: S104 -- the container's own network
