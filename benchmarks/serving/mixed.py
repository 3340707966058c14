"""Mixed traffic: several tenants, learners, inputs, ways, shots and widths, adapting and predicting."""

import json
import random
from collections.abc import Sequence

from benchmarks.serving.connection import JSON, connect, post
from benchmarks.serving.measuring import Requests
from benchmarks.serving.workloads import adapt_glyphs, adapt_json, adapt_tensors, adapt_texts, predict_json

_TENANTS = ("amber", "birch", "cedar", "dune")


async def mixed(url: str, key: str | None) -> Requests:
    """Half of the requests predict, a quarter adapts vectors of three shapes, the rest pictures, texts and prototypes.

    With an admin ``key``, as many tenants as there are names; without one (an open service on loopback), one.
    """
    return await traffic(url, [await new_key(url, key, name) for name in _TENANTS] if key else [None])


async def traffic(url: str, keys: Sequence[str | None]) -> Requests:
    """The same, of the tenants of these keys."""
    kinds: list[tuple[Requests, int]] = []
    for own in keys:
        kinds += [
            (predict_json(await _model(url, own), key=own), 8),
            (adapt_json(key=own, shots=1), 2),
            (adapt_tensors(key=own), 1),
            (adapt_tensors(key=own, shots=10, width=64), 1),
            (adapt_json(key=own, shots=2, width=32, learner="protonet"), 1),
            (adapt_glyphs(key=own), 1),
            (adapt_glyphs(key=own, checkpoint="glyphs"), 1),
            (adapt_texts(key=own), 1),
        ]
    makers, weights = [maker for maker, _ in kinds], [weight for _, weight in kinds]

    def request(number: int) -> bytes:
        return random.Random(number).choices(makers, weights)[0](number)

    return request


async def new_key(url: str, key: str, tenant: str) -> str:
    """A key of a tenant, made with an admin's ``key``."""
    body = json.dumps({"name": f"bench-{tenant}", "role": "user", "tenant": tenant}).encode()
    return str((await _ask(url, post("/v1/api-keys", JSON, body, key)))["key"])


async def _model(url: str, key: str | None) -> str:
    return str((await _ask(url, adapt_json(key=key)(random.SystemRandom().randrange(10**9))))["id"])


async def _ask(url: str, request: bytes) -> dict[str, object]:
    connection = await connect(url)
    answer = await connection.ask(request)
    connection.close()
    if answer.status != 201:
        raise RuntimeError(f"answered {answer.status}: {answer.body[:500]!r}")
    body: dict[str, object] = json.loads(answer.body)
    return body
