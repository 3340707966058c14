"""Making data sets: from a file that was uploaded, or from what the service has."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from anyio import to_thread
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.dataset_bodies import NewBuiltInRequest, NewDatasetRequest, SplitRequest
from kshot.contracts.datasets import DatasetManifest, RecordedFrom
from kshot.contracts.errors import Expired, Invalid, KshotError, NotFound, Unavailable
from kshot.contracts.ids import new_id
from kshot.episodes.datasets import Asked
from kshot.storage import idempotency
from kshot.storage.access import audit
from kshot.storage.checkpoints import resolve
from kshot.storage.datasets import StoredDataset, check_name_is_free, get_dataset, insert_dataset
from kshot.storage.objects import sha256
from kshot.storage.quotas import check_dataset
from kshot.storage.recording import tenants_opted_in
from service.auth import Caller
from service.bodies.requests import validate
from service.bodies.strict_json import strict_object
from service.state import State
from service.uploads import Upload, bring_omniglot, check_file, store_may_be_full


@dataclass(frozen=True)
class Order:
    """One POST. ``idempotency_key``: as sent, if any; ``request_id``: for the audit log."""

    caller: Caller
    idempotency_key: str | None
    request_id: str | None


async def make_from_upload(state: State, order: Order, upload: Upload) -> tuple[StoredDataset, bool]:
    """The data set of an uploaded file, and whether this request made it. Raises what is wrong with request or file."""
    wanted = validate(NewDatasetRequest, strict_object(upload.request, "request"))
    splits = None if upload.splits is None else strict_object(upload.splits, "splits")
    await _check_name(state, order, wanted.name)
    asked = Asked(
        id=new_id("ds"),
        name=wanted.name,
        filename=upload.filename,
        format=wanted.format,
        columns=wanted.columns.as_columns(),
        shares=wanted.split.as_shares(),
        seed=wanted.split.seed,
        splits=splits,
    )
    found = await check_file(state, upload.file, asked)
    manifest = found.model_copy(update={"sha256": upload.sha256})
    said = b"|".join([upload.request, upload.splits or b"", upload.sha256.encode()])
    return await _record(state, order, manifest, wanted.description, said, upload.file)


async def make_built_in(state: State, order: Order, body: bytes, file: Path) -> tuple[StoredDataset, bool]:
    """The data set of a built-in source, and whether this request made it. ``file``: where one may be written."""
    wanted = validate(NewBuiltInRequest, strict_object(body))
    _check_source(wanted)
    await _check_name(state, order, wanted.name)
    stored: Path | None = None
    if wanted.source == "omniglot":
        manifest, digest = await bring_omniglot(state, file, Asked(id=new_id("ds"), name=wanted.name))
        manifest, stored = manifest.model_copy(update={"sha256": digest}), file
    elif wanted.source == "sinusoid":
        manifest = _sinusoid(wanted.name)
    else:
        manifest = await _recorded(state, order.caller, wanted)
    return await _record(state, order, manifest, wanted.description, body, stored)


def _sinusoid(name: str) -> DatasetManifest:
    return DatasetManifest(
        id=new_id("ds"), name=name, format="sinusoid", modality="vector", task="regression", width=1
    )  # fmt: skip


async def _recorded(state: State, caller: Caller, wanted: NewBuiltInRequest) -> DatasetManifest:
    """The tasks themselves are collected when a job begins; whose they are is settled now, and asked again then."""
    assert wanted.checkpoint is not None
    async with state.database.single() as connection:
        try:
            checkpoint = (await resolve(connection, wanted.checkpoint))[0].manifest
        except NotFound as error:
            error.param = "checkpoint"
            raise
        tenants = await _willing(connection, caller, wanted.tenants)
    spec, split = checkpoint.input, wanted.split or SplitRequest()
    kinds = [kind for kind in checkpoint.tasks if kind != "multitask"]
    if not kinds or (wanted.task is not None and wanted.task not in kinds):
        raise Invalid(f"this checkpoint does {' and '.join(checkpoint.tasks)}", param="task")
    return DatasetManifest(
        id=new_id("ds"),
        name=wanted.name,
        format="recorded_tasks",
        modality=spec.modality,
        task=wanted.task or kinds[0],
        file="data.safetensors",
        shares=split.as_shares(),
        seed=split.seed,
        width=spec.width if isinstance(spec, VectorInput) else None,
        input=spec,
        recorded=RecordedFrom(checkpoint=wanted.checkpoint, tenants=tenants),
    )


async def _willing(connection: AsyncConnection, caller: Caller, names: list[str] | None) -> tuple[str, ...]:
    """Ids of the tenants of these names, or the caller's own. Invalid where one does not let us record."""
    willing = await tenants_opted_in(connection)
    if names is None:
        if caller.tenant not in willing:
            raise Invalid("your tenant does not let its tasks be recorded; it must opt in first", param="tenants")
        return (caller.tenant,)
    ids = {name: tenant for tenant, name in willing.items()}
    for i, name in enumerate(names):
        if name not in ids:
            raise Invalid("this tenant does not let its tasks be recorded; it must opt in", param=f"tenants[{i}]")
    return tuple(sorted({ids[name] for name in names}))


def _check_source(wanted: NewBuiltInRequest) -> None:
    recorded = wanted.source == "recorded-tasks"
    if recorded and wanted.checkpoint is None:
        raise Invalid("say from which checkpoint the tasks were adapted", param="checkpoint")
    for field in ("checkpoint", "task", "tenants", "split"):
        if not recorded and getattr(wanted, field) is not None:
            raise Invalid("only recorded-tasks has this field", param=field)


async def _check_name(state: State, order: Order, name: str) -> None:
    """Before minutes of work; not with an Idempotency-Key, whose first request may have taken the name."""
    if order.idempotency_key is None:
        async with state.database.single() as connection:
            await check_name_is_free(connection, name)
            await check_dataset(connection, order.caller.tenant, order.caller.quotas, 0)


async def _record(
    state: State, order: Order, manifest: DatasetManifest, description: str, said: bytes, file: Path | None
) -> tuple[StoredDataset, bool]:
    """Adopt the file and record the data set; False where the Idempotency-Key made it before.

    The file goes first: into a bucket it may take minutes, and no transaction waits for that. Where nothing was
    recorded it is removed again, but not where the database went away: had the commit succeeded after all, there would
    be a row without its data.
    """
    object_key = None if file is None else f"datasets/{manifest.id}{PurePosixPath(manifest.file or '').suffix}"
    n_bytes, fresh = 0 if file is None else (await to_thread.run_sync(file.stat)).st_size, False
    if object_key is not None and file is not None:
        with store_may_be_full():
            await to_thread.run_sync(state.objects.adopt, object_key, file)
    try:
        row, fresh = await _write(state, order, manifest, description, sha256(b"datasets" + said), object_key, n_bytes)
    except Unavailable:
        raise
    except KshotError:
        await _remove(state, object_key)
        raise
    if not fresh:
        await _remove(state, object_key)
    return row, fresh


async def _write(
    state: State,
    order: Order,
    manifest: DatasetManifest,
    description: str,
    digest: str,
    object_key: str | None,
    n_bytes: int,
) -> tuple[StoredDataset, bool]:
    """One transaction. ``digest``: of what the request said, to be bound to its Idempotency-Key."""
    caller = order.caller
    async with state.database.transaction() as connection:
        if order.idempotency_key is not None:
            bound = await idempotency.take(connection, caller.tenant, order.idempotency_key, digest, manifest.id)
            if bound.object_id != manifest.id:
                return await _made_before(connection, bound.object_id), False
        await check_dataset(connection, caller.tenant, caller.quotas, n_bytes)
        row = await insert_dataset(
            connection,
            tenant=caller.tenant,
            manifest=manifest,
            description=description,
            object_key=object_key,
            n_bytes=n_bytes,
        )
        await audit(
            connection,
            tenant=caller.tenant,
            key=caller.key,
            action="dataset.create",
            object_id=row.id,
            request_id=order.request_id,
        )
    return row, True


async def _remove(state: State, object_key: str | None) -> None:
    if object_key is not None:
        with suppress(OSError):  # an object that no row knows costs its bytes, and no answer
            await to_thread.run_sync(state.objects.delete, object_key)


async def _made_before(connection: AsyncConnection, id: str) -> StoredDataset:
    try:
        return await get_dataset(connection, id)
    except NotFound:
        raise Expired(
            "the data set that this Idempotency-Key made was deleted; send a fresh key to make it again",
            param="Idempotency-Key",
        ) from None
