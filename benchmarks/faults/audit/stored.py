"""States and objects: what a row names is there, whole and readable; what lies there is named, or a sweep's."""

import asyncio
import hashlib
from pathlib import Path

import asyncpg

from benchmarks.faults.audit.findings import Audit
from kshot.learners.state import load_state

_STATES = """
SELECT r.task_id, r.object_key AS key, r.object_sha256 AS sha256, r.state FROM results r
JOIN tasks t ON t.id = r.task_id JOIN adapted_models m ON m.id = t.adapted_model_id
WHERE m.deleted_at IS NULL AND m.state_erased_at IS NULL
AND (m.pinned OR m.expires_at IS NULL OR m.expires_at > now())
AND (NOT t.background OR m.task_id = t.id)
"""
_NAMED = """
SELECT r.object_key FROM results r
JOIN tasks t ON t.id = r.task_id JOIN adapted_models m ON m.id = t.adapted_model_id
WHERE r.object_key IS NOT NULL AND m.deleted_at IS NULL AND m.state_erased_at IS NULL
UNION ALL SELECT object_key FROM checkpoints WHERE deleted_at IS NULL
UNION ALL SELECT object_key FROM datasets WHERE deleted_at IS NULL AND object_key IS NOT NULL
"""
_SWEPT_STATES = """
SELECT 'states/' || t.id || '-' || n || '.safetensors' FROM tasks t
JOIN adapted_models m ON m.id = t.adapted_model_id, generate_series(1, t.attempt) AS n
WHERE m.expires_at IS NOT NULL AND m.deleted_at IS NOT NULL AND m.state_erased_at IS NULL
"""
"""Of deleted models, until the sweep of expired ones has come by."""


async def audit_states(connection: asyncpg.Connection, objects: Path, audit: Audit) -> None:
    """Read every state that a model answers with."""
    async with connection.transaction():
        async for row in connection.cursor(_STATES, prefetch=50):
            audit.checked["states"] += 1
            problem = await asyncio.to_thread(_problem, row, objects)
            if problem is not None:
                audit.find("lost", f"the state of {row['task_id']} {problem}")


def _problem(row: asyncpg.Record, objects: Path) -> str | None:
    """What is wrong with a stored state."""
    if row["key"] is None and row["state"] is None:
        return "is nowhere"
    path = objects / (row["key"] or "")
    if row["key"] is not None and not path.is_file():
        return f"is not at {row['key']}"
    blob = row["state"] if row["key"] is None else path.read_bytes()
    if hashlib.sha256(blob).hexdigest() != row["sha256"]:
        return "is not what was stored"
    try:
        load_state(blob)
    except Exception as error:
        return f"cannot be loaded: {error}"
    return None


async def awaited_sweeps(connection: asyncpg.Connection, objects: Path) -> tuple[list[str], list[str]]:
    """Objects that no living row names: those that a sweep is to remove, and those that none will."""
    stored = await asyncio.to_thread(_stored, objects)
    named = {row[0] for row in await connection.fetch(_NAMED)}
    swept_states = {row[0] for row in await connection.fetch(_SWEPT_STATES)}
    unnamed = sorted(stored - named)
    swept = [key for key in unnamed if key in swept_states or _is_swept(key)]
    return swept, [key for key in unnamed if key not in set(swept)]


async def audit_objects(connection: asyncpg.Connection, objects: Path, audit: Audit) -> None:
    """Look for what was left over."""
    audit.checked["objects"] = len(await asyncio.to_thread(_stored, objects))
    swept, left = await awaited_sweeps(connection, objects)
    audit.noted["objects that a sweep is still to remove"] = len(swept)
    for key in left:
        audit.find("left over", f"nobody names the object {key}")


def _stored(objects: Path) -> set[str]:
    return {path.relative_to(objects).as_posix() for path in objects.rglob("*") if path.is_file()}


def _is_swept(key: str) -> bool:
    """Half-written files go an hour after their last byte; states of jobs, and weights that never became a checkpoint,
    within a minute of the job's end."""
    parts = key.split("/")
    half_written = any(part.startswith(".") for part in parts)
    return half_written or parts[0] in ("jobs", "checkpoints")
