"""A real Postgres, migrated, for the tests of this room."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kshot.contracts.checkpoints import EncoderSpec, LearnerSpec, Lineage, Manifest, VectorInput
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Payload
from kshot.storage.adapted_models import NewAdaptedModel
from kshot.storage.checkpoints import register
from kshot.storage.database import open_database
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tasks import NewTask
from standalone import EmbeddedServers, embedded_servers

PAYLOAD = Payload().encode()

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    with embedded_servers() as running:
        yield running


def alembic(servers: EmbeddedServers, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "alembic", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | servers.environ, capture_output=True, text=True)


@pytest.fixture(scope="session")
def migrated(servers: EmbeddedServers) -> EmbeddedServers:
    done = alembic(servers, "upgrade", "head")
    assert done.returncode == 0, done.stderr
    return servers


@pytest.fixture
async def database(migrated: EmbeddedServers) -> AsyncIterator[AsyncEngine]:
    engine = open_database(migrated.database_url, pool_size=25)
    yield engine
    await engine.dispose()


def a_manifest() -> Manifest:
    lineage = Lineage(command="tests", code_version="0", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    return Manifest(
        name="plain",
        description="for tests",
        tasks=("classification",),
        input=VectorInput(),
        encoder=EncoderSpec(name="identity"),
        learner=LearnerSpec(name="protonet"),
        lineage=lineage,
    )


@pytest.fixture
async def checkpoint(database: AsyncEngine) -> str:
    async with database.begin() as connection:
        return await register(connection, new_id("ckpt"), a_manifest(), "abc", "checkpoints/abc", 1)


def a_model(checkpoint: str, **changes: Any) -> NewAdaptedModel:
    values: dict[str, Any] = {
        "id": new_id("am"), "tenant": DEFAULT_TENANT, "checkpoint": checkpoint, "checkpoint_name": "plain",
        "alias": None, "learner": "protonet", "options": {}, "task": "classification", "classes": ("a", "b"),
        "k_shot": (1, 1), "n_support": 2, "input_shape": (3,), "fingerprint": None, "parent": None, "metadata": {},
        "ttl_s": 3600.0, "task_id": new_id("task"),
    }  # fmt: skip
    return NewAdaptedModel(**(values | changes))


def its_task(model: NewAdaptedModel) -> NewTask:
    return NewTask(model.task_id, model.tenant, model.id, model.checkpoint, model.learner, PAYLOAD, None, None)


async def another_tenant(connection: AsyncConnection) -> str:
    from kshot.storage.access import ensure_tenant

    return await ensure_tenant(connection, new_id("ten").lower().replace("_", "-"))
