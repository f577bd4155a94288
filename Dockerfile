# The service with its committed models: CPU by default, `--build-arg EXTRA=gpu` for CUDA (its libraries
# come as wheels; the host brings the driver, and the container is started with `--gpus all`).
#
#   docker build -t vitrine .
#   docker run --read-only --tmpfs /tmp -v vitrine-state:/state -p 3000:3000 vitrine
# For a build that can be repeated bit for bit, give BASE a digest: python@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS builder
ARG EXTRA=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/vitrine
COPY requirements/image-${EXTRA}.txt /requirements.txt
RUN /opt/vitrine/bin/pip install --require-hashes --only-binary :all: -r /requirements.txt
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY artifacts artifacts
COPY service service
COPY training/__init__.py training/__init__.py
# The commands and the version's metadata; the sources stay where they are. What only installs is not kept.
RUN /opt/vitrine/bin/pip install --no-deps --no-build-isolation --editable . \
 && /opt/vitrine/bin/python -m compileall -q artifacts service \
 && /opt/vitrine/bin/pip uninstall --quiet --yes setuptools pip \
 && rm -rf training vitrine.egg-info build /opt/vitrine/bin/vitrine-train

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vitrine" \
      org.opencontainers.image.description="Small image classifiers served over HTTP with latency and accuracy in Prometheus" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A fixed number, so that volumes and Kubernetes' runAsNonRoot can name it; nobody logs in as it.
RUN groupadd --gid 10001 vitrine \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /state --shell /usr/sbin/nologin vitrine \
 && install -d -o 10001 -g 10001 /state
COPY --from=builder /opt/vitrine /opt/vitrine
COPY --from=builder /app /app
ENV PATH=/opt/vitrine/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BENTOML_DO_NOT_TRACK=true \
    ORT_DISABLE_TELEMETRY=1 \
    VITRINE_STATE=/state \
    VITRINE_LAME_DUCK_S=5
WORKDIR /app
USER 10001:10001
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/readyz', timeout=2)"]
ENTRYPOINT ["vitrine"]
CMD ["serve", "--host", "0.0.0.0", "--port", "3000"]
