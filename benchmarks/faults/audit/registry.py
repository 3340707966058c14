"""Jobs, checkpoints, aliases: each job ended, published once or not at all; each alias has one unbroken history."""

import asyncpg

from benchmarks.faults.audit.findings import Audit
from benchmarks.faults.audit.told import Index

_JOBS = """
SELECT j.id, j.request->>'description' AS description, j.status, j.checkpoint_id AS checkpoint,
    j.failure->>'code' AS code, j.last_seq, array_agg(DISTINCT c.id) FILTER (WHERE c.id IS NOT NULL) AS made,
    (SELECT count(*) FROM job_events e WHERE e.job_id = j.id) AS events,
    (SELECT count(*) FROM job_events e WHERE e.job_id = j.id AND e.kind = 'succeeded') AS succeeded
FROM training_jobs j LEFT JOIN checkpoints c ON c.job_id = j.id GROUP BY j.id
"""
_ALIASES = """
SELECT a.name, a.alias, a.version, a.checkpoint_id AS checkpoint,
    array_agg(h.version ORDER BY h.version) AS versions, array_agg(h.checkpoint_id ORDER BY h.version) AS history
FROM aliases a LEFT JOIN alias_history h ON (h.name, h.alias) = (a.name, a.alias) GROUP BY a.name, a.alias
"""
_PROMOTIONS = """
SELECT p.id, p.status, p.failure->>'code' AS code,
    (SELECT count(*) FROM alias_history h WHERE h.promotion_id = p.id) AS moved
FROM promotions p
"""


async def audit_jobs(connection: asyncpg.Connection, index: Index, audit: Audit) -> None:
    """Compare jobs with what the administrator was told."""
    rows = {row["id"]: row for row in await connection.fetch(_JOBS)}
    audit.checked["training jobs"] = len(rows)
    described = [row["description"] for row in rows.values()]
    for number, ids in index.jobs.items():
        if len(ids) > 1 or described.count(f"order {number}") > 1:
            audit.find("doubled", f"the job of order {number} is there more than once: {', '.join(sorted(ids))}")
        for own in ids - set(rows):
            audit.find("lost", f"the job {own} was accepted, and is not there")
    for row in rows.values():
        _check_job(row, index, audit)
    for told in index.job_bodies:
        body, row = told.json(), rows.get(told.json()["id"])
        if row is None or body["status"] not in ("succeeded", "failed", "cancelled"):
            continue
        if (body["status"], body["checkpoint"]) != (row["status"], row["checkpoint"]):
            audit.find("contradicted", f"the job {row['id']} was told as {told.body}, and is {dict(row)}")


def _check_job(row: asyncpg.Record, index: Index, audit: Audit) -> None:
    own, status, made = row["id"], row["status"], row["made"] or []
    audit.noted[f"jobs {status}" + (f": {row['code']}" if row["code"] else "")] += 1
    if status not in ("succeeded", "failed", "cancelled"):
        audit.find("lost", f"the job {own} is still {status}")
    if status == "failed" and row["code"] is None:
        audit.find("lost", f"the job {own} failed without a reason")
    if own in index.cancelled_jobs and status != "cancelled":
        audit.find("contradicted", f"the job {own} was told to be cancelled, and {status}")
    if len(made) > 1 or row["succeeded"] > 1:
        audit.find("doubled", f"the job {own} was published as {', '.join(made)}")
    if made != ([row["checkpoint"]] if status == "succeeded" else []):
        audit.find("contradicted", f"the job {own} has {status} with {row['checkpoint']}; checkpoints of it: {made}")
    if row["events"] != row["last_seq"]:
        audit.find("lost", f"the job {own} has {row['events']} events of {row['last_seq']}")


async def audit_aliases(connection: asyncpg.Connection, index: Index, audit: Audit) -> None:
    """Versions without gap or fork, and among them every move that was told."""
    rows = {f"{row['name']}@{row['alias']}": row for row in await connection.fetch(_ALIASES)}
    audit.checked["aliases"] = len(rows)
    for name, row in rows.items():
        if row["versions"] != list(range(1, row["version"] + 1)) or row["history"][-1] != row["checkpoint"]:
            audit.find("contradicted", f"{name} is at version {row['version']}, its history has {row['versions']}")
    audit.checked["moves of aliases"] = len(index.aliases)
    for told in index.aliases:
        body = told.json()
        row = rows.get(f"{body['name']}@{body['alias']}")
        if row is None or body["version"] > len(row["history"]):
            audit.find("lost", f"the move {told.body} was told, and is not in the history")
        elif row["history"][body["version"] - 1] != body["checkpoint"]:
            audit.find("contradicted", f"the move {told.body} was told, and its version is of {dict(row)}")


async def audit_promotions(connection: asyncpg.Connection, index: Index, audit: Audit) -> None:
    """Each decided, and moved the alias once where it was promoted, else never."""
    rows = {row["id"]: row for row in await connection.fetch(_PROMOTIONS)}
    audit.checked["promotions"] = len(rows)
    for own in index.promotions - set(rows):
        audit.find("lost", f"the promotion {own} was accepted, and is not there")
    for own, row in rows.items():
        audit.noted[f"promotions {row['status']}" + (f": {row['code']}" if row["code"] else "")] += 1
        if row["status"] in ("queued", "running"):
            audit.find("lost", f"the promotion {own} is still {row['status']}")
        if row["moved"] != (row["status"] == "promoted"):
            audit.find(
                "doubled" if row["moved"] > 1 else "contradicted",
                f"the promotion {own} is {row['status']} and moved the alias {row['moved']} times",
            )
