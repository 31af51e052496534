# The Airflow image: scheduler, API server, DAG processor, triggerer and the DAGs. No torch and nothing of the stages.
ARG BASE=python:3.11-slim

FROM ${BASE} AS libraries
RUN command -v strip || (apt-get update -qq && apt-get install -qq --no-install-recommends binutils)
RUN python3 -m venv --without-pip /opt/venv
COPY requirements.lock docker/requirements/airflow.txt docker/slim.sh /build/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --constraint /build/requirements.lock \
      --requirement /build/airflow.txt \
 && sh /build/slim.sh /opt/venv

FROM ${BASE} AS code
COPY recipes /app/recipes
COPY dags /app/dags
COPY docker/with_secrets.py docker/healthy.py /app/docker/
RUN python3 -m compileall -q /app

FROM ${BASE}
RUN command -v tini || (apt-get update -qq && apt-get install -qq --no-install-recommends tini && rm -rf /var/lib/apt/lists/*)
RUN mkdir /airflow && chown 10001:10001 /airflow
COPY --from=libraries /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/airflow \
    LOGNAME=kd \
    AIRFLOW_HOME=/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/app/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False \
    SCARF_NO_ANALYTICS=true \
    DO_NOT_TRACK=1
USER 10001:10001
WORKDIR /airflow
ENTRYPOINT ["tini", "--", "python", "/app/docker/with_secrets.py"]
CMD ["airflow", "version"]
ARG GIT_SHA=""
LABEL org.opencontainers.image.title="kd-airflow" \
      org.opencontainers.image.description="kd-pipelines: Airflow and the DAGs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${GIT_SHA}"
COPY --from=code /app /app
