# The serving image: answers for one registered version (KD_MODEL=models:/NAME@champion). No torch, no shell, no package
# manager; the version brings its own code.
ARG BASE=python:3.11-slim

FROM ${BASE} AS libraries
RUN command -v strip || (apt-get update -qq && apt-get install -qq --no-install-recommends binutils)
RUN python3 -m venv --without-pip /opt/venv
COPY requirements.lock docker/requirements/serving.txt docker/slim.sh docker/flatten.sh /build/
# What is uninstalled serves other registries and hubs only; MLflow looks for the folder databricks.
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --constraint /build/requirements.lock \
      --requirement /build/serving.txt \
 && pip --python /opt/venv/bin/python uninstall --yes --quiet cryptography cffi pycparser databricks-sdk google-auth \
      pyasn1 pyasn1-modules huggingface-hub hf-xet \
 && cd /opt/venv/lib/python3*/site-packages && mkdir -p databricks \
 && rm -rf onnxruntime/transformers onnxruntime/quantization onnxruntime/tools \
 && find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts ! -name 'sso*' -exec rm -rf {} + \
 && sh /build/slim.sh /opt/venv \
 && /opt/venv/bin/python -c "import mlflow.pyfunc.scoring_server, uvicorn, onnxruntime, tokenizers, pyarrow.parquet, \
boto3, mlflow; mlflow.MlflowClient('http://127.0.0.1:1')" \
 && sh /build/flatten.sh /opt/venv /image
COPY docker/with_secrets.py docker/serve.py /image/app/

FROM scratch
COPY --from=libraries /image /
ENV PATH=/opt/venv/bin \
    LD_LIBRARY_PATH=/usr/local/lib \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    LOGNAME=kd \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR=false \
    MLFLOW_DISABLE_TELEMETRY=true
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["/opt/venv/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/ping', timeout=4)"]
ENTRYPOINT ["/opt/venv/bin/python", "/app/with_secrets.py", "/opt/venv/bin/python", "/app/serve.py"]
ARG GIT_SHA=""
LABEL org.opencontainers.image.title="kd-serving" \
      org.opencontainers.image.description="kd-pipelines: a registered version answers over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${GIT_SHA}"
