"""Predictions and feedback: what was answered is recorded, once, to the digit, under its tenant and model."""

import json
from collections.abc import Iterator, Sequence

import asyncpg

from benchmarks.faults.audit.findings import Audit
from benchmarks.faults.audit.told import Index
from benchmarks.faults.ledger import Told

_UNSYNCED_S = 3.0
"""How long before a crash a record may have been written and still not be on the disk. Postgres says three times 0.2 s
(wal_writer_delay); its writer may wait for a core here."""
_AT_ONCE = 500

_PREDICTIONS = """
SELECT p.id, tenants.name AS tenant, p.adapted_model_id AS model, p.predictions, p.timings
FROM predictions p JOIN tenants ON tenants.id = p.tenant_id WHERE p.id = ANY ($1)
"""
_KEPT_OF_DELETED = """
SELECT p.id, p.adapted_model_id AS model, m.state_erased_at IS NOT NULL AS swept
FROM predictions p JOIN adapted_models m ON m.id = p.adapted_model_id
WHERE m.deleted_at IS NOT NULL AND (p.predictions <> '[]'::jsonb OR p.inputs IS NOT NULL)
"""
_FEEDBACK = """
SELECT f.id, tenants.name AS tenant, f.adapted_model_id AS model, f.prediction_id AS prediction
FROM feedback f JOIN tenants ON tenants.id = f.tenant_id WHERE f.id = ANY ($1)
"""
_STRANGERS = """
SELECT p.id FROM predictions p JOIN adapted_models m ON m.id = p.adapted_model_id
WHERE p.tenant_id <> m.tenant_id
UNION ALL SELECT f.id FROM feedback f JOIN adapted_models m ON m.id = f.adapted_model_id
WHERE f.tenant_id <> m.tenant_id
"""


async def audit_predictions(connection: asyncpg.Connection, index: Index, audit: Audit) -> None:
    """Compare the records with the answers."""
    told = {one.json()["id"]: one for one in index.predictions}
    if len(told) < len(index.predictions):
        audit.find("doubled", f"{len(index.predictions) - len(told)} ids of predictions were told more than once")
    audit.checked["predictions"] = len(told)
    for ids in _chunks(list(told)):
        rows = {row["id"]: row for row in await connection.fetch(_PREDICTIONS, ids)}
        for told_id in ids:
            _check_prediction(told_id, told[told_id], rows.get(told_id), index, audit)
    for row in await connection.fetch(_KEPT_OF_DELETED):
        if row["swept"]:
            audit.find("left over", f"the prediction {row['id']} of the deleted model {row['model']} is still recorded")
        else:  # it was under way while its model was deleted
            audit.noted["predictions of deleted models that a sweep is still to erase"] += 1
    for row in await connection.fetch(_STRANGERS):
        audit.find("mixed", f"{row['id']} is of another tenant than its model")


def _check_prediction(told_id: str, told: Told, row: asyncpg.Record | None, index: Index, audit: Audit) -> None:
    model = told.about["model"]
    if row is None:
        before = _before_a_crash(told, index)
        if before is None:
            audit.find(
                "lost", f"the prediction {told_id} was answered to {told.tenant} at {told.at:.2f} s, and not recorded"
            )
        else:
            audit.noted["predictions answered in the moment of a crash of Postgres, and not recorded"] += 1
        return
    if (row["tenant"], row["model"]) != (told.tenant, model):
        audit.find(
            "mixed", f"the prediction {told_id} of {told.tenant} is recorded for {row['tenant']}, {row['model']}"
        )
    recorded, body = json.loads(row["predictions"]), told.json()
    if model in index.asked_to_delete and recorded == []:
        return
    if recorded != body["predictions"] or json.loads(row["timings"]) != body["timings"]:
        audit.find(
            "contradicted", f"the prediction {told_id} was told as {told.body}, and is recorded as {row['predictions']}"
        )


def _before_a_crash(told: Told, index: Index) -> float | None:
    """How long before a crash of Postgres it was recorded, at most; None where there was none near: then a record that
    is missing is lost. It was written some time between request and answer."""
    for crash in index.crashes:
        if told.sent <= crash.ended and told.at >= crash.begun - _UNSYNCED_S:
            return crash.ended - told.sent
    return None


async def audit_feedback(connection: asyncpg.Connection, index: Index, audit: Audit) -> None:
    """Each that was told of is there, unless its model is deleted; sent again, it is the same."""
    told: dict[str, Told] = {}
    numbers: dict[int, set[str]] = {}
    for one in index.feedback:
        told_id = one.json()["id"]
        told[told_id] = one
        numbers.setdefault(one.about["number"], set()).add(told_id)
    audit.checked["feedback"] = len(told)
    for number, ids in numbers.items():
        if len(ids) > 1:
            audit.find("doubled", f"feedback {number} was recorded as {', '.join(sorted(ids))}")
    rows = {row["id"]: row for row in await connection.fetch(_FEEDBACK, list(told))}
    for told_id, one in told.items():
        row, model = rows.get(told_id), one.about["model"]
        if row is None:
            if model not in index.asked_to_delete:
                audit.find("lost", f"the feedback {told_id} of {one.tenant} was accepted, and is not there")
        elif (row["tenant"], row["model"], row["prediction"]) != (one.tenant, model, one.about["prediction"]):
            audit.find("mixed", f"the feedback {told_id} of {one.tenant} on {model} is recorded as {dict(row)}")


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]
