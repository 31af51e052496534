# SeaweedFS, an S3 server for the stack on one machine. In production: your own bucket.
ARG BASE=python:3.11-slim
FROM ${BASE}
RUN command -v tini || (apt-get update -qq && apt-get install -qq --no-install-recommends tini && rm -rf /var/lib/apt/lists/*)
COPY requirements.lock docker/requirements/s3.txt /build/
RUN python3 -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --constraint /build/requirements.lock --requirement /build/s3.txt \
 && mkdir /data && chown 10001:10001 /data
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/data
COPY docker/with_secrets.py docker/s3.py /app/docker/
USER 10001:10001
WORKDIR /data
EXPOSE 8333
ENTRYPOINT ["tini", "--", "python", "/app/docker/with_secrets.py"]
CMD ["python", "/app/docker/s3.py"]
LABEL org.opencontainers.image.title="kd-s3" \
      org.opencontainers.image.licenses="Apache-2.0"
