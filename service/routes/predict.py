"""POST /predict: answers of a stored adapted model, or of an inline support set."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from kshot.contracts import api
from kshot.contracts.api import PredictSettings
from kshot.contracts.errors import Invalid, KshotError, NotFound
from kshot.contracts.ids import is_id
from kshot.contracts.selection import AUTO, CheckpointRef
from kshot.contracts.tasks import AnswerOptions, LearnerOptions, Payload, SupportSet, TargetSpec
from kshot.inputs import input_shape
from kshot.storage import lookups
from kshot.storage.adapted_models import AdaptedModel
from kshot.storage.lookups import Found, Servable
from service import views
from service.auth import Caller, enter, expected_tenant
from service.bodies.raw_inputs import RawInputs, RawSupport
from service.bodies.requests import Parsed, parse_predict
from service.bodies.stream import ANY, announced_small, read_raw
from service.calls import Call, call_of
from service.choosing import read_open
from service.finding import find_adapted_model, find_checkpoint, find_promoted
from service.meaning import read_query, read_support
from service.openapi import CALLER_AND_PREFERENCE, body_of, problems
from service.predicting import Question, ask, check_answer, require_ready
from service.prefer import Preference, parse_prefer
from service.state import State
from service.waiting import wait_until_done

router = APIRouter(tags=["predict"])


@router.post(
    "/predict",
    summary="Predict with an adapted model, or with an inline support set",
    response_model=api.Prediction,
    openapi_extra={**body_of(api.PredictRequest), **CALLER_AND_PREFERENCE},
    responses=problems(400, 403, 404, 409, 410, 413, 415, 422, 504),
)
async def predict(request: Request) -> Response:
    """A query's answer does not depend on the other queries of the call.

    With `nearest` in `return` each prediction also says which three of the model's examples are most like the input,
    most alike first: `index` in the order in which the examples were sent (a parent's before those added), the
    example's `label`, and the `similarity` of the two embeddings: 1 where nothing tells them apart, 0.5 where they are
    as far apart as two of the examples are on average (root mean square), towards 0 beyond. Explanations are not
    recorded.
    """
    state: State = request.app.state.kshot
    preference = parse_prefer(request.headers.get("prefer"))
    caller, parsed, found, n_bytes = await _read(request, state)
    if parsed.settings.model is not None:
        question, named = await _stored(state, caller, call_of(request), parsed, found, preference, n_bytes)
    else:
        question, named = await _one_shot(state, parsed, n_bytes)
    prediction_id, reply = await ask(state, caller, question, request, preference.deadline_s)
    checkpoint = reply.checkpoint or named
    assert reply.timings is not None and checkpoint is not None
    return views.respond(
        api.Prediction(
            id=prediction_id,
            model=question.model,
            checkpoint=checkpoint,
            predictions=reply.predictions or [],
            timings=reply.timings,
            selection=reply.selection,
        ),
        headers=preference.headers,
    )


async def _read(request: Request, state: State) -> tuple[Caller, Parsed[PredictSettings], Found, int]:
    """The caller, the body, what was found out about the model it names, and the body's size (`Raw.cost`).

    Of a caller seen before, a small body is read first, so that key and model are looked up together.
    """
    caller, found = None, None
    if expected_tenant(request, state) is None or not announced_small(request):
        caller, found = await enter(request, state)
    try:
        raw = await read_raw(request, state.settings.max_body_bytes, ANY)
        parsed = await state.read(raw, parse_predict)
    except KshotError:
        if caller is None:
            await enter(request, state)  # whoever may not enter hears that first
        raise
    named = parsed.settings.model
    model = named if named is not None and is_id(named, "am") else None
    if caller is None or found is None:
        caller, found = await enter(request, state, lookups.Question(model=model))
    elif model is not None:
        found = await state.database.find(lookups.Question(tenant=caller.tenant, model=model))
    return caller, parsed, found, raw.cost


async def _stored(
    state: State,
    caller: Caller,
    call: Call,
    parsed: Parsed[PredictSettings],
    found: Found,
    preference: Preference,
    n_bytes: int,
) -> tuple[Question, CheckpointRef | None]:
    settings, query = parsed.settings, parsed.query
    if parsed.support is not None or settings.checkpoint is not None or settings.options != LearnerOptions():
        raise Invalid("either model, or checkpoint, options and support", param="model")
    if query is None:
        raise Invalid("inputs are missing", param="inputs")
    model = await _ready(state, caller, call, found, preference)
    answer = _answer(settings, model.task, model.targets)
    ref = model.made_with
    spec = (await state.checkpoint(ref.id)).manifest.input

    def encode() -> bytes:
        inputs = read_query(query, spec, model.input_shape, state.settings, "inputs")
        return Payload(query=inputs, answer=answer).encode()

    payload = await state.compute(n_bytes, encode, images=spec.modality == "image")
    return Question(ref.id, model.id, payload, settings.store, model.task_id), ref


async def _ready(
    state: State, caller: Caller, call: Call, found: Found, preference: Preference
) -> AdaptedModel | Servable:
    """The model, once it is made where the caller is willing to wait."""
    try:
        model: AdaptedModel | Servable = found.model()
    except NotFound as error:
        remedy = "GET /v1/adapted-models lists yours; to adapt in the same call send checkpoint and support"
        raise NotFound(f"{error.message}; {remedy}", param="model") from None
    if model.status in views.PENDING:
        pending = await find_adapted_model(state, caller, model.id)
        model = await wait_until_done(state, call, pending, preference.wait_s)
    require_ready(model)
    return model


async def _one_shot(
    state: State, parsed: Parsed[PredictSettings], n_bytes: int
) -> tuple[Question, CheckpointRef | None]:
    settings, support, query = parsed.settings, parsed.support, parsed.query
    if support is None:
        raise Invalid("name an adapted model, or send a support set", param="model")
    if settings.checkpoint is None:
        raise Invalid("a support set needs a checkpoint to adapt", param="checkpoint")
    if query is None:
        raise Invalid("inputs are missing", param="inputs")
    if settings.checkpoint == AUTO:
        return await _open(state, settings, support, query, n_bytes), None
    checkpoint, alias = await find_checkpoint(state, settings.checkpoint)
    manifest = checkpoint.manifest

    def encode() -> bytes:
        meaning = read_support(support, manifest, settings.options, state.settings)
        shape = input_shape(meaning.support.inputs)
        inputs = read_query(query, manifest.input, shape, state.settings, "inputs")
        return Payload(meaning.support, inputs, settings.options, _answer_of(settings, meaning.support)).encode()

    payload = await state.compute(n_bytes, encode, images=manifest.input.modality == "image")
    return Question(checkpoint.id, None, payload, settings.store), CheckpointRef(
        id=checkpoint.id, name=manifest.name, alias=alias
    )


async def _open(
    state: State, settings: PredictSettings, support: RawSupport, query: RawInputs, n_bytes: int
) -> Question:
    promoted = await find_promoted(state)

    def encode() -> bytes:
        meaning = read_open(support, query, promoted, settings.options, state.settings, "inputs")
        choice = meaning.choice
        return Payload(
            meaning.support,
            meaning.query,
            settings.options,
            _answer_of(settings, meaning.support),
            choice.candidates,
            choice.others,
        ).encode()

    return Question(AUTO, None, await state.compute(n_bytes, encode, images=True), settings.store)


def _answer_of(settings: PredictSettings, support: SupportSet) -> AnswerOptions:
    return _answer(settings, support.task, support.columns)


def _answer(settings: PredictSettings, task: str, targets: Sequence[TargetSpec]) -> AnswerOptions:
    wanted = AnswerOptions().wanted if settings.wanted is None else tuple(settings.wanted)
    answer = AnswerOptions(wanted=wanted, top_k=settings.top_k, reject_below=settings.reject_below)
    check_answer(answer, task, targets, settings.wanted is not None)
    return answer
