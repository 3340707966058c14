"""Where calls that need a worker come in: some are turned away here, at once, so that the others are answered soon.

Orders that nobody waits for (``Prefer: respond-async``) have a gate of their own: they are recorded and gone, and what
they leave is bounded in Postgres. Callers who wait must not keep them out, least of all where no worker answers.
"""

from types import SimpleNamespace

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from kshot.contracts.errors import QueueFull
from service.arriving import Place, announced_bytes
from service.auth import expected_tenant
from service.calls import begin_call
from service.errors import problem_response, request_id_of
from service.gate import Gate
from service.prefer import parse_prefer
from service.state import State

_EXAMPLES = "/examples"
_CALLS = ("/adapt", "/predict", _EXAMPLES)


class Entrance:
    """Plain ASGI, inside the request's context and outside of everything that costs.

    Whose call it is, is a guess from his last one, as for rates (`auth.enter`): of callers not seen before all count as
    one tenant, and so do those whose keys are none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(_CALLS):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        state: State = scope["app"].state.kshot
        gate, tenant = _gate_of(request, state), expected_tenant(request, state) or ""
        try:
            gate.enter(tenant)
        except QueueFull as error:
            state.metrics.dropped("refused")
            scope["route"] = SimpleNamespace(path=_template(scope["path"]))
            await problem_response(error, request_id_of(request))(scope, receive, send)
            return
        begin_call(scope)
        place = Place(gate, state.anteroom, tenant, announced_bytes(request, state.settings.max_body_bytes))
        try:
            await self._app(scope, place.reading(receive), send)
        finally:
            place.leave()


def _gate_of(request: Request, state: State) -> Gate:
    waits = request.scope["path"].endswith("/predict") or parse_prefer(request.headers.get("prefer")).wait_s > 0
    return state.calls_gate if waits else state.orders_gate


def _template(path: str) -> str:
    """As the routes' own, in which ids have a name. Whoever is turned away may have asked for anything, and what is
    counted by its path stays in memory."""
    if path.endswith(_EXAMPLES):
        return "/v1/adapted-models/{id}/examples"
    return path if path.removeprefix("/v1") in _CALLS else "unmatched"
