"""Data sets to meta-train on, for administrators."""

from contextlib import suppress
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from kshot.contracts import api
from kshot.contracts.dataset_bodies import Dataset, DatasetSamples
from kshot.contracts.errors import Unavailable
from kshot.storage.datasets import delete_dataset, forget_object, get_dataset, list_datasets, users_of
from service import views
from service.adapting import IdempotencyDep
from service.auditing import note
from service.auth import AdminDep
from service.bodies.stream import JSON, MULTIPART, SMALL_BYTES, media_type_of, read_raw
from service.datasets import Order, make_built_in, make_from_upload
from service.errors import request_id_of
from service.openapi import dataset_body, problems
from service.pages import CursorDep, page_of
from service.samples import samples_of
from service.state import StateDep
from service.uploads import receive, staged

router = APIRouter(prefix="/datasets", tags=["data sets"])


@router.post(
    "",
    summary="Upload a data set, or name a built-in one",
    status_code=201,
    response_model=Dataset,
    openapi_extra=dataset_body(),
    responses={
        200: {"model": Dataset, "description": "The same Idempotency-Key made it before"},
        **problems(400, 403, 404, 409, 410, 413, 415, 422),
    },
)
async def make(request: Request, state: StateDep, caller: AdminDep, idempotency_key: IdempotencyDep) -> Response:
    """Multipart: `request` (JSON, at least a name), `file` (a zip of class folders of PNG or JPEG pictures, CSV or
    JSON lines of texts with labels, npz or CSV of vectors with labels, CSV of a table with several targets) and perhaps
    `splits` (JSON: `{"train": [...], "valid": [...], "test": [...]}`, lists of classes). All of it is read through
    before the answer. JSON: a built-in source."""
    media_type, boundary = media_type_of(request, (JSON, MULTIPART))
    order = Order(caller, idempotency_key, request_id_of(request))
    async with staged(state.objects) as file:
        if media_type == JSON:
            body = (await read_raw(request, SMALL_BYTES)).data
            row, fresh = await make_built_in(state, order, body, file)
        else:
            upload = await receive(request, boundary, file, state.settings.max_dataset_bytes)
            row, fresh = await make_from_upload(state, order, upload)
    location = {"Location": f"/v1/datasets/{row.id}"}
    return views.respond(views.dataset(row), 201 if fresh else 200, location)


@router.get("", summary="List data sets", response_model=api.Page[Dataset], responses=problems(403, 422))
async def list_all(state: StateDep, caller: AdminDep, cursor: CursorDep) -> Response:
    """Newest first, without the names of their classes."""
    async with state.database.single() as connection:
        rows = await list_datasets(connection, limit=cursor.limit + 1, after=cursor.after)
    return views.respond(page_of([views.dataset(row) for row in rows], cursor.limit))


@router.get("/{id}", summary="Get a data set", response_model=Dataset, responses=problems(403, 404))
async def get_one(id: str, state: StateDep, caller: AdminDep) -> Response:
    """By id or name, with the classes of each part and who uses it."""
    async with state.database.single() as connection:
        row = await get_dataset(connection, id)
        users = await users_of(connection, row.id)
    return views.respond(views.dataset(row, users))


@router.get(
    "/{id}/samples", summary="Examples of a data set", response_model=DatasetSamples, responses=problems(403, 404, 413)
)
async def samples(
    id: str,
    state: StateDep,
    caller: AdminDep,
    limit: Annotated[int, Query(ge=1, le=100, description="At most so many")] = 24,
) -> Response:
    """By id or name: the first example of each class, then the second, to be looked at; pictures are thumbnails."""
    async with state.database.single() as connection:
        row = await get_dataset(connection, id)
    return views.respond(DatasetSamples(dataset=row.id, data=await samples_of(state, row, limit)))


@router.delete("/{id}", summary="Delete a data set", response_model=api.Deleted, responses=problems(403, 404, 409))
async def delete(id: str, request: Request, state: StateDep, caller: AdminDep) -> Response:
    """By id or name; 409 while an open job or promotion needs it. Checkpoints made from it stay and keep its digest."""
    async with state.database.transaction() as connection:
        row = await get_dataset(connection, id)
        object_key = await delete_dataset(connection, row.id)
        await note(connection, request, caller, "dataset.delete", row.id)
    if object_key is not None:
        with suppress(OSError, Unavailable):  # it is deleted all the same; the sweep removes the file later
            await to_thread.run_sync(state.objects.delete, object_key)
            async with state.database.transaction() as connection:
                await forget_object(connection, row.id)
    return views.respond(api.Deleted(object="dataset", id=row.id))
