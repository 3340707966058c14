"""What is noted of a call that is turned away at the entrance."""

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from kshot.contracts.errors import QueueFull
from service.entrance import Entrance
from service.gate import Gate


def full() -> Gate:
    gate = Gate(16)
    with pytest.raises(QueueFull):
        for i in range(100):
            gate.enter(str(i))
    return gate


async def refused(path: str) -> Scope:
    """The scope of a call of this path that is turned away."""

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("let in")

    async def receive() -> Message:
        raise AssertionError("read")

    async def send(message: Message) -> None:
        sent.append(message)

    sent: list[Message] = []
    gate = full()
    state = SimpleNamespace(
        calls_gate=gate, orders_gate=gate, keys_exist=False, metrics=SimpleNamespace(dropped=lambda reason: None)
    )
    app: Any = SimpleNamespace(state=SimpleNamespace(kshot=state))
    scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": [], "app": app}
    await Entrance(inside)(scope, receive, send)
    assert sent[0]["status"] == 429
    return scope


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/predict", "/predict"),
        ("/v1/adapt", "/v1/adapt"),
        ("/v1/adapted-models/am_1/examples", "/v1/adapted-models/{id}/examples"),
        ("/whatever-17/adapt", "unmatched"),
        ("/v1/whatever-17/predict", "unmatched"),
        ("/17/v1/adapt", "unmatched"),
    ],
)
async def test_paths_that_nobody_serves_make_no_series_of_their_own(path: str, route: str) -> None:
    assert (await refused(path))["route"].path == route
