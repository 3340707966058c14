"""GET /v1/limits."""

from fastapi import APIRouter
from starlette.responses import Response

from kshot.contracts import api
from kshot.contracts.tasks import MAX_TARGETS
from kshot.inputs.images import MAX_PIXELS, MAX_PIXELS_PER_REQUEST
from service.auth import CallerDep
from service.bodies.stream import ANY
from service.openapi import problems
from service.prefer import MAX_WAIT_S
from service.state import StateDep
from service.views import respond

router = APIRouter(tags=["limits"])


@router.get("/limits", summary="What one request may carry", response_model=api.Limits, responses=problems())
async def get_limits(state: StateDep, caller: CallerDep) -> Response:
    """For this caller."""
    settings = state.settings
    return respond(
        api.Limits(
            max_ways=settings.max_ways,
            max_targets=MAX_TARGETS,
            max_support=settings.max_support,
            max_joint_labels=settings.max_joint_labels,
            max_query=settings.max_query,
            max_body_bytes=settings.max_body_bytes,
            max_dataset_bytes=settings.max_dataset_bytes,
            max_decoded_bytes=settings.max_decoded_bytes,
            max_image_pixels=MAX_PIXELS,
            max_image_pixels_per_request=MAX_PIXELS_PER_REQUEST,
            max_wait_seconds=MAX_WAIT_S,
            max_open_tasks=settings.max_open_per_tenant,
            requests_per_minute=caller.quotas.requests_per_minute or settings.rate_per_minute,
            formats=list(ANY),
        )
    )
