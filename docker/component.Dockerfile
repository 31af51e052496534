# The component image: resolve, the stages, tracking, registration, promotion, and MLflow's server. `make images` builds it
# from the files of a commit. TORCH_OPTIONS are words for pip that name an index of torch's CPU builds; without them pip
# takes the build with CUDA where its index has that one.
ARG BASE=python:3.11-slim

FROM ${BASE} AS libraries
ARG TORCH_OPTIONS=""
RUN command -v strip || (apt-get update -qq && apt-get install -qq --no-install-recommends binutils)
RUN python3 -m venv --without-pip /opt/venv
COPY requirements.lock docker/requirements/component.txt docker/slim.sh docker/warm.py /build/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --constraint /build/requirements.lock \
      ${TORCH_OPTIONS} torch \
 && pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --constraint /build/requirements.lock \
      --requirement /build/component.txt \
 && sh /build/slim.sh /opt/venv \
 && /opt/venv/bin/python /build/warm.py

FROM ${BASE} AS code
COPY .dvcignore dvc.yaml params.yaml requirements.lock /app/
COPY recipes /app/recipes
COPY teachers /app/teachers
COPY scores /app/scores
COPY components /app/components
COPY kd_core /app/kd_core
COPY kd_ops /app/kd_ops
COPY docker/with_secrets.py /app/docker/
RUN python3 -m compileall -q /app

FROM ${BASE}
RUN command -v tini || (apt-get update -qq && apt-get install -qq --no-install-recommends tini && rm -rf /var/lib/apt/lists/*)
RUN mkdir -m 1777 /answer && mkdir /work && chown 10001:10001 /work
COPY --from=libraries /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HOME=/work/huggingface \
    LOGNAME=kd \
    KD_PROJECT=/app \
    KD_HOME=/work \
    DVC_NO_ANALYTICS=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=1
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["tini", "--", "python", "/app/docker/with_secrets.py"]
CMD ["python", "-m", "kd_ops.cli", "--help"]
ARG GIT_SHA=""
ENV KD_GIT_SHA=${GIT_SHA}
LABEL org.opencontainers.image.title="kd-component" \
      org.opencontainers.image.description="kd-pipelines: one stage of a run" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${GIT_SHA}"
COPY --from=code /app /app
