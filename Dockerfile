# syntax=docker/dockerfile:1
# Two images from one file: `--target api` (no torch) and `--target worker` (with it; also publishes and trains).
# torch comes from the default index, with CUDA; name another index for a smaller CPU image:
#   docker build --target worker --build-arg PIP_EXTRA_INDEX_URL=... .
# Packages are pinned by constraints.txt. Pin the base image by digest too (docs/how-to/production.md says how to find it):
#   docker build --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:... .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/venv/bin:$PATH \
    KSHOT_OBJECTS=/data/objects \
    KSHOT_CACHE=/data/cache \
    KSHOT_WORK=/data/work
RUN groupadd --gid 10001 kshot \
    && useradd --uid 10001 --gid kshot --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin kshot \
    && install --directory --owner=kshot --group=kshot --mode=0700 /data/objects /data/cache /data/work \
    && install --directory /data/sets /data/pretrained
LABEL org.opencontainers.image.title=kshot \
      org.opencontainers.image.description="Few-shot learning as a service" \
      org.opencontainers.image.licenses=Apache-2.0
WORKDIR /app

# What the images hold of others comes first, so that a change of ours installs only ours again.
FROM base AS build-api
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY kshot/__init__.py kshot/__init__.py
RUN --mount=type=cache,target=/root/.cache/pip pip install --constraint constraints.txt ".[server,s3,tracing]"
COPY kshot kshot
RUN pip install --no-cache-dir --no-deps --force-reinstall .

FROM build-api AS build-worker
ARG PIP_EXTRA_INDEX_URL=""
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt ".[server,s3,backup,learn,pretrained,tracing,train]"

FROM base AS api
COPY --from=build-api /opt/venv /opt/venv
COPY alembic.ini ./
COPY migrations migrations
COPY service service
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["python", "-m", "service", "serve", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS worker
ENV KSHOT_ALIVE_FILE=/tmp/kshot-alive
COPY --from=build-worker /opt/venv /opt/venv
COPY workers workers
COPY checkpoints checkpoints
USER 10001:10001
# Whether its event loop turns is what is asked here: a worker that lost its database recovers by itself. Whether any
# worker serves is what the API's /readyz says.
HEALTHCHECK --interval=20s --timeout=5s --start-period=120s --retries=3 \
    CMD ["sh", "-c", "test -n \"$(find /tmp/kshot-alive -mmin -1)\""]
CMD ["python", "-m", "workers", "adapt"]
