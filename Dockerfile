# syntax=docker/dockerfile:1
# Two images from one file: `--target api` (no torch) and `--target worker` (with it; also publishes and trains).
# torch comes from the default index, with CUDA; name another index for a smaller CPU image:
#   docker build --target worker --build-arg PIP_EXTRA_INDEX_URL=... .

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/venv/bin:$PATH \
    KSHOT_OBJECTS=/data/objects \
    KSHOT_WORK=/data/work
RUN groupadd --gid 10001 kshot \
    && useradd --uid 10001 --gid kshot --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin kshot \
    && install --directory --owner=kshot --group=kshot --mode=0700 /data/objects /data/work
WORKDIR /app

FROM base AS build-api
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY kshot kshot
RUN pip install --constraint constraints.txt ".[server]"

FROM build-api AS build-worker
ARG PIP_EXTRA_INDEX_URL=""
RUN pip install --constraint constraints.txt ".[server,learn]"

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
COPY --from=build-worker /opt/venv /opt/venv
COPY workers workers
COPY checkpoints checkpoints
USER 10001:10001
# A worker that lost its database keeps running and recovers by itself, so alive is what is asked here;
# whether any worker serves is what the API's /readyz says.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os; os.kill(1, 0)"]
CMD ["python", "-m", "workers", "adapt"]
