"""Stored rows as the API shows them."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from kshot.contracts import api, registry_bodies
from kshot.contracts.dataset_bodies import Dataset, RecordedSource
from kshot.contracts.methods import allowed_learners
from kshot.contracts.selection import Selection
from kshot.contracts.tasks import CountedTarget, Quality, Timings
from kshot.episodes.splits import PARTS
from kshot.storage.access import Key
from kshot.storage.adapted_models import AdaptedModel
from kshot.storage.aliases import Alias
from kshot.storage.checkpoints import StoredCheckpoint
from kshot.storage.datasets import StoredDataset

PENDING = ("queued", "running")
_CLASSES_SHOWN = 1000


def respond(body: api.Answer, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer as JSON bytes, written once."""
    return Response(body.model_dump_json(), status, headers=headers, media_type="application/json")


def adapted_model(row: AdaptedModel) -> api.AdaptedModel:
    """An adapted model as far as its row tells."""
    return api.AdaptedModel(
        id=row.id,
        status=row.status,
        checkpoint=None if row.checkpoint is None else row.made_with,
        learner=row.learner,
        task=row.task,
        classes=list(row.classes),
        n_way=len(row.classes) if row.classes else None,
        k_shot={str(label): count for label, count in zip(row.classes, row.k_shot, strict=True)},
        n_support=row.n_support,
        quality=_quality(row.quality),
        observed=None if row.observed is None else observed(**row.observed),
        targets=[_target(target, row.qualities[i] if row.qualities else None) for i, target in enumerate(row.targets)],
        predictions=row.predictions,
        selection=None if row.selection is None else Selection.model_validate(row.selection, strict=False),
        timings=None if row.timings is None else Timings.model_validate(row.timings, strict=False),
        error=row.failure,
        created_at=row.created_at,
        expires_at=None if row.pinned else row.expires_at,
        pinned=row.pinned,
        follow=row.follow,
        revision=row.revision,
        parent_id=row.parent,
        metadata=row.metadata,
    )


def checkpoint(row: StoredCheckpoint, aliases: list[str]) -> registry_bodies.Checkpoint:
    """A checkpoint with the aliases that point at it."""
    manifest = row.manifest
    return registry_bodies.Checkpoint(
        id=row.id,
        name=manifest.name,
        description=manifest.description,
        aliases=aliases,
        tasks=list(manifest.tasks),
        input=manifest.input,
        learner=manifest.learner.name,
        learners=allowed_learners(manifest),
        n_targets=manifest.n_targets,
        bytes=row.bytes,
        evaluation=manifest.evaluation,
        lineage=manifest.lineage,
        job=row.job,
        parent=manifest.lineage.parent,
        datasets=[source.id for source in manifest.lineage.data if source.id is not None],
        created_at=row.created_at,
        deleted_at=row.deleted_at,
    )


def alias(row: Alias) -> registry_bodies.Alias:
    """An alias."""
    return registry_bodies.Alias(
        name=row.name, alias=row.alias, checkpoint=row.checkpoint, version=row.version, updated_at=row.updated_at
    )


def dataset(row: StoredDataset, users: list[str] | None = None) -> Dataset:
    """A data set; with ``users``, the ids of who needs it, the names of its classes are shown too."""
    manifest = row.manifest
    recorded = None
    if manifest.recorded is not None:
        recorded = RecordedSource(checkpoint=manifest.recorded.checkpoint, tenants=list(manifest.recorded.tenants))
    shown = {part: list(manifest.splits[part][:_CLASSES_SHOWN]) for part in PARTS if part in manifest.splits}
    sizes = {part: list(manifest.sizes[part][:_CLASSES_SHOWN]) for part in PARTS if part in manifest.sizes}
    return Dataset(
        id=row.id,
        name=row.name,
        description=row.description,
        format=manifest.format,
        modality=manifest.modality,
        task=manifest.task,
        n_examples=manifest.n_examples,
        counts={part: manifest.counts[part] for part in PARTS if part in manifest.counts},
        smallest=manifest.smallest,
        width=manifest.width,
        pictures=manifest.pictures,
        columns=manifest.columns,
        seed=manifest.seed,
        recorded=recorded,
        sha256=manifest.sha256,
        bytes=row.bytes,
        splits=None if users is None else shown,
        sizes=None if users is None else sizes,
        used_by=users,
        created_at=row.created_at,
    )


def api_key(row: Key, tenant_name: str, secret: str | None = None) -> api.ApiKey:
    """An API key; the secret only in the answer that made it."""
    return api.ApiKey(
        id=row.id,
        name=row.name,
        role=row.role,
        tenant=tenant_name,
        prefix=row.prefix,
        key=secret,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        replaces=row.replaces,
    )


def _target(target: CountedTarget, quality: Mapping[str, Any] | None) -> api.Target:
    classification = target.kind == "classification"
    return api.Target(
        name=target.name,
        task=target.kind,
        classes=list(target.classes),
        n_way=len(target.classes) if classification else None,
        k_shot={str(label): count for label, count in zip(target.classes, target.k_shot, strict=True)},
        n_examples=target.n_examples,
        quality=_quality(quality),
    )


def observed(n: int, correct: int | None, squared_error: float | None) -> api.Observed:
    """What feedback says of ``n`` answers, at least one."""
    if correct is not None:
        return api.Observed(n=n, accuracy=correct / n)
    return api.Observed(n=n, mse=None if squared_error is None else squared_error / n)


def _quality(stored: Mapping[str, Any] | None) -> Quality | None:
    return None if stored is None else Quality.model_validate(stored, strict=False)
