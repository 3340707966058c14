"""POST /adapt: a support set in, an adapted model out."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from kshot.contracts import api
from kshot.contracts.errors import Invalid
from kshot.inputs import input_shape
from kshot.storage.checkpoints import StoredCheckpoint
from service.accepting import Order, Prepared, prepare
from service.adapting import RESPONSES, IdempotencyDep, answer_order
from service.auth import CallerDep
from service.bodies.requests import Parsed, parse_adapt
from service.bodies.stream import ANY, read_raw
from service.finding import find_checkpoint
from service.meaning import read_query, read_support
from service.openapi import body_of
from service.prefer import PreferenceDep
from service.settings import Settings
from service.state import StateDep

router = APIRouter(tags=["adapt"])


@router.post(
    "/adapt",
    summary="Adapt a checkpoint to a support set",
    status_code=201,
    response_model=api.AdaptedModel,
    openapi_extra=body_of(api.AdaptRequest),
    responses=RESPONSES,
)
async def adapt(
    request: Request, state: StateDep, caller: CallerDep, preference: PreferenceDep, key: IdempotencyDep
) -> Response:
    """With `query`, its predictions come in the same answer."""
    raw = await read_raw(request, state.settings.max_body_bytes, ANY)
    parsed = await state.compute(len(raw.data), lambda: parse_adapt(raw))
    checkpoint, alias = await find_checkpoint(state, parsed.settings.checkpoint)
    prepared = await state.compute(
        len(raw.data),
        lambda: _prepare(parsed, checkpoint, alias, state.settings),
        images=checkpoint.manifest.input.modality == "image",
    )
    return await answer_order(request, state, caller, prepared, key, preference)


def _prepare(
    parsed: Parsed[api.AdaptSettings], checkpoint: StoredCheckpoint, alias: str | None, limits: Settings
) -> Prepared:
    if parsed.support is None:
        raise Invalid("examples are missing", param="support")
    settings, manifest = parsed.settings, checkpoint.manifest
    meaning = read_support(parsed.support, manifest, settings.options, limits)
    query = None
    if parsed.query is not None:
        query = read_query(parsed.query, manifest.input, input_shape(meaning.support.inputs), limits)
    return prepare(
        Order(
            checkpoint=checkpoint,
            reference=settings.checkpoint,
            alias=alias,
            learner=meaning.learner,
            options=settings.options,
            support=meaning.support,
            query=query,
            ttl_s=settings.ttl_seconds,
            metadata=settings.metadata,
        )
    )
