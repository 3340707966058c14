"""What a meta-training job would run, for administrators who think about one."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from kshot.contracts.ids import new_id
from kshot.contracts.job_bodies import NewJobRequest, TrainingPlan
from service import views
from service.auth import AdminDep
from service.bodies.requests import validate
from service.bodies.stream import SMALL_BYTES, read_raw
from service.bodies.strict_json import strict_object
from service.job_specs import job_spec
from service.openapi import body_of, problems
from service.state import StateDep

router = APIRouter(prefix="/training-plans", tags=["meta-training"])


@router.post(
    "",
    summary="What a job would run",
    response_model=TrainingPlan,
    openapi_extra=body_of(NewJobRequest, json_only=True),
    responses=problems(400, 403, 404, 410, 413, 415, 422),
)
async def make(request: Request, state: StateDep, caller: AdminDep) -> Response:
    """The recipe of the job that the same body would start, every default filled in, or why it would be refused.
    Nothing is started."""
    wanted = validate(NewJobRequest, strict_object((await read_raw(request, SMALL_BYTES)).data))
    async with state.database.transaction() as connection:
        spec, _ = await job_spec(connection, new_id("job"), wanted)
    budget = None if spec.minutes is None else 60 * spec.minutes
    return views.respond(TrainingPlan(recipe=spec.recipe.model_dump(mode="json"), time_budget=budget))
