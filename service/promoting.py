"""Promotions to production: asked for in the transaction that looks at the alias, decided by a trainer."""

import asyncio
import time

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from kshot.contracts import registry_bodies
from kshot.contracts.checkpoints import Manifest
from kshot.contracts.errors import Invalid, NotFound, WorseThanIncumbent, rebuild
from kshot.contracts.ids import new_id
from kshot.contracts.registry import check_comparable, describe_loss
from kshot.storage.aliases import Alias, get_alias
from kshot.storage.checkpoints import StoredCheckpoint, get_checkpoint
from kshot.storage.datasets import StoredDataset, get_dataset
from kshot.storage.promotions import OPEN, NewPromotion, Promotion, find_open, get_promotion, insert_promotion
from service import registry_views, views
from service.auth import Caller
from service.preconditions import etag
from service.prefer import Preference
from service.state import State

_FIRST_LOOK_S = 0.1
_LAST_LOOK_S = 1.0


async def ask_to_promote(
    connection: AsyncConnection,
    caller: Caller,
    wanted: registry_bodies.MoveAliasRequest,
    challenger: StoredCheckpoint,
    now: Alias,
    request_id: str | None,
) -> tuple[Promotion, bool]:
    """The promotion that compares ``challenger`` with what ``now`` points at, and whether it is new: asking again while
    it is open finds the same.

    Raises Invalid where the two cannot be compared or no data set is known, Conflict where another one is open.
    """
    incumbent = await get_checkpoint(connection, now.checkpoint)
    dataset = await _find_dataset(connection, wanted.dataset, challenger.manifest, incumbent.manifest)
    found = await find_open(connection, now.name, now.alias)
    if found is not None and (found.challenger, found.dataset) == (challenger.id, dataset.id):
        return found, False
    check_comparable(challenger.manifest, incumbent.manifest, dataset.manifest)
    promotion = NewPromotion(
        id=new_id("pro"),
        tenant=caller.tenant,
        name=now.name,
        alias=now.alias,
        challenger=challenger.id,
        incumbent=incumbent.id,
        alias_version=now.version,
        dataset=dataset.id,
        key=caller.key,
        request_id=request_id,
    )
    return await insert_promotion(connection, promotion), True


async def wait_until_decided(state: State, promotion: Promotion, wait_s: float) -> Promotion:
    """The promotion once it is decided, or as it is after ``wait_s`` seconds."""
    deadline, pause = time.monotonic() + wait_s, _FIRST_LOOK_S
    while promotion.status in OPEN and (left := deadline - time.monotonic()) > 0:
        await asyncio.sleep(min(pause, left))
        pause = min(_LAST_LOOK_S, 2 * pause)
        async with state.database.single() as connection:
            promotion = await get_promotion(connection, promotion.id)
    return promotion


async def answer_promotion(state: State, promotion: Promotion, preference: Preference) -> Response:
    """200 with the alias that moved, 202 while it is being compared. Raises WorseThanIncumbent with the figures, or why
    nothing could be compared."""
    if promotion.status in OPEN:
        headers = {"Location": f"/v1/promotions/{promotion.id}", "Retry-After": "1", **preference.headers}
        return views.respond(await shown(state, promotion), 202, headers)
    if promotion.failure is not None:
        raise rebuild(promotion.failure.code, promotion.failure.message, promotion.failure.param)
    if promotion.status == "refused" and promotion.comparison is not None:
        figures = describe_loss(promotion.comparison)
        refused = WorseThanIncumbent(f"{figures}; promote with force: true to do it anyway", param="checkpoint")
        refused.promotion = promotion.id
        raise refused
    async with state.database.single() as connection:
        moved = await get_alias(connection, promotion.name, promotion.alias)
    assert moved is not None
    return views.respond(views.alias(moved), 200, {**etag(moved), **preference.headers})


async def shown(state: State, promotion: Promotion) -> registry_bodies.Promotion:
    """The promotion with what a caller may expect."""
    body = registry_views.promotion(promotion)
    if promotion.status not in OPEN:
        return body
    queue_state = promotion.status if promotion.status == "running" or await state.trainers() else "no_worker"
    return body.model_copy(update={"queue_state": queue_state, "retry_after_ms": 1000})


async def _find_dataset(
    connection: AsyncConnection, named: str | None, challenger: Manifest, incumbent: Manifest
) -> StoredDataset:
    """The data set to compare on, held until the transaction ends: the one named, else the first that either checkpoint
    was meta-trained on."""
    if named is not None:
        try:
            return await get_dataset(connection, named, hold=True)
        except NotFound as error:
            raise NotFound(error.message, param="dataset") from None
    for source in (*challenger.lineage.data, *incumbent.lineage.data):
        try:
            if source.id is not None:
                return await get_dataset(connection, source.id, hold=True)
        except NotFound:
            continue  # it was deleted
    raise Invalid(
        "there is no data set to compare it on with the one in production; name one, which POST /v1/datasets uploads, "
        "or promote with force: true",
        param="dataset",
    )
