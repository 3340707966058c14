"""POST /adapt: a support set in, an adapted model out."""

import time
from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from kshot.contracts import api
from kshot.contracts.errors import Invalid
from kshot.contracts.selection import AUTO
from kshot.inputs import input_shape
from kshot.storage.adapted_models import NOTHING_TO_FOLLOW
from kshot.storage.checkpoints import StoredCheckpoint
from kshot.storage.lookups import Question
from service.adapting import RESPONSES, IdempotencyDep, answer_order
from service.auth import Caller, CallerDep, enter, expected_tenant
from service.bodies.raw_inputs import RawSupport
from service.bodies.requests import Parsed, parse_adapt
from service.bodies.stream import ANY, read_raw
from service.choosing import read_open
from service.finding import Resolved, find_checkpoint, find_promoted
from service.meaning import read_query, read_support
from service.openapi import body_of
from service.prefer import Preference, PreferenceDep, parse_prefer
from service.preparing import Order, Prepared, prepare
from service.settings import Settings
from service.state import State, StateDep

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
    return await _adapt(request, state, caller, preference, key, None)


async def adapt_unkeyed(request: Request) -> Response:
    """The same without an idempotency key, for `Shortcut`: reads the other headers itself.

    What a caller adapts is most often what he adapted last, so that alias is looked up with his key.
    """
    state: State = request.app.state.kshot
    tenant = expected_tenant(request, state)
    name, alias = (None, None) if tenant is None else state.aliases.get(tenant, (None, None))
    at = time.monotonic()
    caller, found = await enter(request, state, Question(name=name, alias=alias))
    resolved = None if name is None or alias is None else Resolved(name, alias, found.checkpoint, at)
    return await _adapt(request, state, caller, parse_prefer(request.headers.get("prefer")), None, resolved)


async def _adapt(
    request: Request,
    state: State,
    caller: Caller,
    preference: Preference,
    key: str | None,
    resolved: Resolved | None,
) -> Response:
    raw = await read_raw(request, state.settings.max_body_bytes, ANY)
    async with state.rounds.enter():
        parsed = await state.read(raw, parse_adapt)
        reference = parsed.settings.checkpoint
        named = None if reference == AUTO else await find_checkpoint(state, reference, resolved)
    if named is not None and named[1] is not None:
        state.aliases[caller.tenant] = named[0].manifest.name, named[1]
    prepared = await (_open(state, parsed, raw.cost) if named is None else _named(state, parsed, named, raw.cost))
    return await answer_order(request, state, caller, prepared, key, preference)


async def _named(
    state: State, parsed: Parsed[api.AdaptSettings], named: tuple[StoredCheckpoint, str | None], n_bytes: int
) -> Prepared:
    checkpoint, alias = named
    if parsed.settings.follow and alias is None:
        raise Invalid(NOTHING_TO_FOLLOW, param="follow")
    return await state.compute(
        n_bytes,
        lambda: _prepare(parsed, checkpoint, alias, state.settings),
        images=checkpoint.manifest.input.modality == "image",
    )


async def _open(state: State, parsed: Parsed[api.AdaptSettings], n_bytes: int) -> Prepared:
    if parsed.settings.follow:
        raise Invalid(NOTHING_TO_FOLLOW, param="follow")
    promoted = await find_promoted(state)
    return await state.compute(n_bytes, lambda: _prepare_open(parsed, promoted, state.settings), images=True)


def _prepare(
    parsed: Parsed[api.AdaptSettings], checkpoint: StoredCheckpoint, alias: str | None, limits: Settings
) -> Prepared:
    settings, manifest = parsed.settings, checkpoint.manifest
    meaning = read_support(_support(parsed), manifest, settings.options, limits)
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
            follow=settings.follow,
        )
    )


def _prepare_open(
    parsed: Parsed[api.AdaptSettings], promoted: Sequence[StoredCheckpoint], limits: Settings
) -> Prepared:
    settings = parsed.settings
    meaning = read_open(_support(parsed), parsed.query, promoted, settings.options, limits)
    return prepare(
        Order(
            checkpoint=None,
            reference=settings.checkpoint,
            alias=None,
            learner=None,
            options=settings.options,
            support=meaning.support,
            query=meaning.query,
            ttl_s=settings.ttl_seconds,
            metadata=settings.metadata,
            choice=meaning.choice,
        )
    )


def _support(parsed: Parsed[api.AdaptSettings]) -> RawSupport:
    if parsed.support is None:
        raise Invalid("examples are missing", param="support")
    return parsed.support
