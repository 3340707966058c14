"""Tenants and their quotas, for administrators; what a tenant has and may have, for itself."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Request
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from kshot.contracts import access_bodies
from kshot.contracts.api import Page
from kshot.storage.access import StoredTenant, get_tenant, list_tenants
from kshot.storage.quotas import (
    NO_QUOTAS,
    Quotas,
    all_quotas,
    count_dataset_bytes,
    count_models,
    count_open_jobs,
    get_quotas,
    set_quotas,
)
from service import views
from service.auditing import note
from service.auth import AdminDep, CallerDep
from service.bodies.requests import validate
from service.bodies.stream import SMALL_BYTES, read_raw
from service.bodies.strict_json import strict_object
from service.openapi import body_of, problems
from service.pages import CursorDep, page_of
from service.state import State, StateDep

router = APIRouter(tags=["tenants"])
_Reference = Annotated[str, Path(description="A tenant's name, or its id")]


@router.get("/usage", summary="What you have, and may have", response_model=access_bodies.Usage, responses=problems())
async def read_usage(state: StateDep, caller: CallerDep) -> Response:
    """Of your tenant: what it uses, and its quotas."""
    async with state.database.of_tenant(caller.tenant) as connection:
        return views.respond(await _usage(connection, await get_tenant(connection, caller.tenant), caller.quotas))


@router.get("/tenants", summary="List tenants", response_model=Page[access_bodies.Tenant], responses=problems(403, 422))
async def list_all(state: StateDep, caller: AdminDep, cursor: CursorDep) -> Response:
    """Newest first, without what they use."""
    async with state.database.single() as connection:
        rows = await list_tenants(connection, limit=cursor.limit + 1, after=cursor.after)
        own = await all_quotas(connection)
    return views.respond(page_of([_tenant(row, own.get(row.id, NO_QUOTAS)) for row in rows], cursor.limit))


@router.get(
    "/tenants/{tenant}", summary="Get a tenant", response_model=access_bodies.Tenant, responses=problems(403, 404)
)
async def get_one(tenant: _Reference, state: StateDep, caller: AdminDep) -> Response:
    """With what it uses, and its quotas."""
    async with state.database.transaction() as connection:
        return views.respond(await _shown(state, connection, await get_tenant(connection, tenant)))


@router.put(
    "/tenants/{tenant}/quotas",
    summary="Set a tenant's quotas",
    response_model=access_bodies.Tenant,
    openapi_extra=body_of(access_bodies.QuotasRequest, json_only=True),
    responses=problems(400, 403, 404, 413, 415, 422),
)
async def decide(tenant: _Reference, request: Request, state: StateDep, caller: AdminDep) -> Response:
    """All of them: what the body leaves out is as the operator's settings say. They hold from the tenant's next request
    on, in every API process. What it has beyond them it keeps, and gets no more."""
    raw = await read_raw(request, SMALL_BYTES)
    wanted = validate(access_bodies.QuotasRequest, strict_object(raw.data))
    async with state.database.transaction() as connection:
        row = await get_tenant(connection, tenant)
        await set_quotas(connection, row.id, Quotas(**wanted.model_dump()))
        await note(connection, request, caller, "quotas.set", row.id)
        return views.respond(await _shown(state, connection, row))


async def _shown(state: State, connection: AsyncConnection, row: StoredTenant) -> access_bodies.Tenant:
    own = await get_quotas(connection, row.id)
    usage = await _usage(connection, row, own.over(state.quotas))
    return _tenant(row, own).model_copy(update={"usage": usage})


async def _usage(connection: AsyncConnection, row: StoredTenant, held: Quotas) -> access_bodies.Usage:
    n_models, stored = await count_models(connection, row.id)
    used = access_bodies.Used(
        adapted_models=n_models,
        stored_bytes=stored,
        dataset_bytes=await count_dataset_bytes(connection, row.id),
        open_jobs=await count_open_jobs(connection, row.id),
    )
    return access_bodies.Usage(tenant=row.name, used=used, quotas=access_bodies.Quotas(**asdict(held)))


def _tenant(row: StoredTenant, own: Quotas) -> access_bodies.Tenant:
    quotas = access_bodies.Quotas(**asdict(own))
    return access_bodies.Tenant(id=row.id, name=row.name, created_at=row.created_at, own_quotas=quotas)
