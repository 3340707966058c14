"""The tasks that tenants let us record: the support sets of their adapted models, and feedback on these."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Select, Text, any_, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.checkpoints import InputSpec
from kshot.contracts.datasets import RecordedFrom
from kshot.storage.flywheel_tables import feedback, recording
from kshot.storage.recording import recorded_since
from kshot.storage.tables import adapted_models, checkpoints, tasks

_FORM: TypeAdapter[InputSpec] = TypeAdapter(InputSpec)
_PAGE = 50


@dataclass(frozen=True)
class RecordedModel:
    """An adapted model whose task is recorded. ``form``: the canonical form its inputs have. ``family``: the same for
    the model, its children by added examples, and models of equal examples; another in each tenant. ``payload``,
    ``feedback``: encoded support sets."""

    id: str
    form: InputSpec
    family: str
    payload: bytes
    feedback: tuple[bytes, ...]


async def read_recorded_models(
    connection: AsyncConnection, source: RecordedFrom, task: str, after: str, max_bytes: int
) -> list[RecordedModel]:
    """A page of recorded models of one kind of task, adapted from checkpoints of ``source``; oldest first, ``after``
    exclusive. Only of tenants that let us record now, and only what came within the time they keep it for.

    Payloads and feedback of a page have up to ``max_bytes`` together; it has one model at least.
    """
    beyond = (adapted_models.c.id > after, tasks.c.adapted_model_id > after)  # said of both: a merge join reads both
    sized = _recorded_models(source, task).where(*beyond).order_by(adapted_models.c.id)
    page = sized.limit(_PAGE).subquery()
    total = func.sum(page.c.bytes).over(order_by=page.c.id)
    place = func.row_number().over(order_by=page.c.id)
    fits = (total <= max_bytes).label("fits")
    fitting = select(page.c.id, page.c.form, fits, place.label("place")).subquery()
    rows = (
        await connection.execute(
            select(fitting.c.id, fitting.c.form, tasks.c.payload)
            .join(tasks, (tasks.c.adapted_model_id == fitting.c.id) & ~tasks.c.background)
            .where(fitting.c.fits | (fitting.c.place == 1))
            .order_by(fitting.c.id)
        )
    ).all()
    ids = [row.id for row in rows]
    families, told = await _families(connection, ids), await _feedback(connection, ids)
    return [
        RecordedModel(
            id=row.id,
            form=_FORM.validate_python(row.form),
            family=families[row.id],
            payload=row.payload,
            feedback=tuple(told.get(row.id, ())),
        )
        for row in rows
    ]


async def are_withdrawn(connection: AsyncConnection, models: Sequence[str]) -> bool:
    """Whether any of these models, whose tasks were read before, is deleted by now, or its tenant lets us record no
    more, or did not for a while: then its examples were erased though their time was not over."""
    held = await connection.scalar(
        select(func.count())
        .select_from(adapted_models)
        .join(tasks, (tasks.c.adapted_model_id == adapted_models.c.id) & ~tasks.c.background)
        .join(recording, recording.c.tenant_id == adapted_models.c.tenant_id)
        .where(
            adapted_models.c.id == any_(cast(models, ARRAY(Text))),
            recording.c.enabled,
            adapted_models.c.deleted_at.is_(None),
            tasks.c.payload.is_not(None) | (tasks.c.created_at <= recorded_since()),
        )
    )
    return held != len(set(models))


def _recorded_models(source: RecordedFrom, task: str) -> Select[Any]:
    """Their ids, the forms of their inputs, and the bytes of their examples and feedback."""
    told = select(func.coalesce(func.sum(func.octet_length(feedback.c.payload)), 0)).where(
        feedback.c.adapted_model_id == adapted_models.c.id
    )
    n_bytes = func.octet_length(tasks.c.payload) + told.scalar_subquery()
    return (
        select(adapted_models.c.id, checkpoints.c.manifest["input"].label("form"), n_bytes.label("bytes"))
        .join(tasks, (tasks.c.adapted_model_id == adapted_models.c.id) & ~tasks.c.background)
        .join(checkpoints, checkpoints.c.id == tasks.c.checkpoint_id)
        .join(recording, recording.c.tenant_id == adapted_models.c.tenant_id)
        .where(
            adapted_models.c.tenant_id.in_(source.tenants),
            recording.c.enabled,
            adapted_models.c.checkpoint_name == source.checkpoint,
            adapted_models.c.task == task,
            adapted_models.c.deleted_at.is_(None),
            tasks.c.status == "succeeded",
            tasks.c.payload.is_not(None),
            tasks.c.created_at > recorded_since(),
        )
    )


async def _families(connection: AsyncConnection, models: Sequence[str]) -> dict[str, str]:
    """The family of each model: the digest of its oldest ancestor's examples, which stays when these are erased, and
    when the ancestor is deleted: otherwise tasks that were trained on would be held out from then on."""
    line = (
        select(adapted_models.c.id.label("start"), adapted_models.c.id, adapted_models.c.parent_id)
        .where(adapted_models.c.id.in_(models))
        .cte("line", recursive=True)
    )
    line = line.union_all(
        select(line.c.start, adapted_models.c.id, adapted_models.c.parent_id).join(
            adapted_models, adapted_models.c.id == line.c.parent_id
        )
    )
    digest = func.coalesce(adapted_models.c.support_sha256, adapted_models.c.id)
    family = func.encode(func.sha256(func.convert_to(adapted_models.c.tenant_id + ":" + digest, "UTF8")), "hex")
    roots = await connection.execute(
        select(line.c.start, family.label("family"))
        .join(adapted_models, adapted_models.c.id == line.c.id)
        .where(line.c.parent_id.is_(None))
    )
    return {row.start: row.family for row in roots}


async def _feedback(connection: AsyncConnection, models: Sequence[str]) -> dict[str, list[bytes]]:
    rows = await connection.execute(
        select(feedback.c.adapted_model_id, feedback.c.payload)
        .join(recording, recording.c.tenant_id == feedback.c.tenant_id)
        .where(
            feedback.c.adapted_model_id.in_(models),
            feedback.c.payload.is_not(None),
            feedback.c.created_at > recorded_since(),
        )
        .order_by(feedback.c.id)
    )
    found: dict[str, list[bytes]] = {}
    for row in rows:
        found.setdefault(row.adapted_model_id, []).append(row.payload)
    return found
