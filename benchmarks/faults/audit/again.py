"""Asked again, the service says what it said before: each model as it was told, each prediction anew."""

import asyncio
import json
import math
import random
from collections.abc import Mapping
from typing import Any

import httpx

from benchmarks.faults.asking import AGAIN, client
from benchmarks.faults.audit.findings import Audit
from benchmarks.faults.audit.told import Index
from benchmarks.faults.ledger import Told
from benchmarks.faults.orders import Order

_AT_ONCE = 8
_TRIES = 60
_ALIKE = 1e-4  # an answer in a batch and the answer alone (ARCHITECTURE.md, "Batching")
_CHANGES = {"observed", "expires_at", "follow", "pinned"}
"""What feedback, equal orders and the caller may change."""
_MOVES = {"checkpoint", "learner", "quality", "predictions", "timings", "revision"}
"""What changes when the alias of a model that follows it moves."""


class Asker:
    """Asks as each tenant. ``keys``: tenant -> API key."""

    def __init__(self, url: str, keys: Mapping[str, str], index: Index, audit: Audit) -> None:
        self._url, self._keys, self._index, self._audit = url, keys, index, audit
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def ask_all(self, most_predictions: int, seed: int) -> None:
        """Every model; up to so many of the predictions; every tenant's models as another tenant."""
        clients = {tenant: client(self._url, key) for tenant, key in self._keys.items()}
        alive = {
            model_id: who for model_id, who in self._index.models.items() if model_id not in self._index.asked_to_delete
        }
        again = [told for told in self._index.predictions if self._can_be_asked(told)]
        chosen = random.Random(seed).sample(again, min(most_predictions, len(again)))
        try:
            await self._each([self._model(clients[tenant], model_id) for model_id, tenant in alive.items()])
            await self._each(
                [self._gone(clients[self._index.models[model_id]], model_id) for model_id in self._index.deleted]
            )
            await self._each([self._predict(clients[told.tenant], told) for told in chosen])
            await self._each([self._foreign(clients, model_id, tenant) for model_id, tenant in alive.items()])
            await self._each([self._list(one, tenant) for tenant, one in clients.items()])
        finally:
            for one in clients.values():
                await one.aclose()

    async def _each(self, asking: list[Any]) -> None:
        async def one(coroutine: Any) -> None:
            async with self._gate:
                await coroutine

        await asyncio.gather(*map(one, asking))

    def _can_be_asked(self, told: Told) -> bool:
        """Not of deleted models, nor of those that may have gone over to another checkpoint since."""
        return told.about["model"] not in self._index.asked_to_delete and told.about["order"]["form"] != "waves"

    async def _model(self, http: httpx.AsyncClient, model_id: str) -> None:
        answer = await http.get(f"/v1/adapted-models/{model_id}")
        bodies = self._index.bodies.get(model_id, [])
        self._audit.checked["bodies of adapted models read again"] += len(bodies)
        if answer.status_code != 200:
            self._audit.find("lost", f"{model_id} is answered with {answer.status_code} {answer.text}")
            return
        for told in bodies:
            if told.body == answer.text:
                self._audit.noted["bodies of adapted models equal to the last byte"] += 1
            elif (part := _difference(told, answer.text)) is not None:
                self._audit.find("contradicted", f"{part} of {model_id}: told {told.body}, now {answer.text}")

    async def _gone(self, http: httpx.AsyncClient, model_id: str) -> None:
        answer = await http.get(f"/v1/adapted-models/{model_id}")
        if answer.status_code != 404:
            self._audit.find(
                "contradicted", f"{model_id} was told to be deleted, and is answered with {answer.status_code}"
            )

    async def _foreign(self, clients: Mapping[str, httpx.AsyncClient], model_id: str, tenant: str) -> None:
        other = min(name for name in clients if name != tenant)
        answer = await clients[other].get(f"/v1/adapted-models/{model_id}")
        self._audit.checked["models asked for by another tenant"] += 1
        if answer.status_code != 404:
            self._audit.find("mixed", f"{model_id} of {tenant} is answered to {other} with {answer.status_code}")

    async def _list(self, http: httpx.AsyncClient, tenant: str) -> None:
        after: str | None = None
        while True:
            params: dict[str, Any] = {"limit": 100} | ({"after": after} if after else {})
            answer = await http.get("/v1/adapted-models", params=params)
            if answer.status_code != 200:
                self._audit.find("lost", f"the list of {tenant} is answered with {answer.status_code} {answer.text}")
                return
            page = answer.json()
            for row in page["data"]:
                owner = row["metadata"].get("owner", tenant)
                if owner != tenant or self._index.models.get(row["id"], tenant) != tenant:
                    self._audit.find("mixed", f"{row['id']} of {owner} is in the list of {tenant}")
            after = page["last_id"]
            if not page["has_more"]:
                return

    async def _predict(self, http: httpx.AsyncClient, told: Told) -> None:
        order, model, salt = Order(**told.about["order"]), told.about["model"], told.about["salt"]
        body: dict[str, Any] = {"inputs": order.inputs(salt)}
        sent = order.body()
        body |= {"model": model} if model else {part: sent[part] for part in ("checkpoint", "options", "support")}
        answer = await _patiently(http, body)
        self._audit.checked["predictions asked again"] += 1
        if answer.status_code != 200:
            self._audit.find("lost", f"{told.body} asked again is {answer.status_code} {answer.text}")
            return
        before, now = told.json()["predictions"], answer.json()["predictions"]
        if before == now:
            self._audit.noted["predictions asked again, equal to the last digit"] += 1
        elif not alike(before, now):
            self._audit.find("contradicted", f"{told.body} asked again is {answer.text}")


async def _patiently(http: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    """The answer to a predict call. On a machine that stands still for seconds one may be late; all is quiet, so the
    next is not."""
    for _ in range(_TRIES):
        answer = await http.post("/predict", json=body)
        if answer.status_code not in AGAIN:
            break
        await asyncio.sleep(1)
    return answer


def _difference(told: Told, now: str) -> str | None:
    """The part that differs, to the byte, of those that may not change."""
    before, after = _tokens(told.body), _tokens(now)
    free = set(_CHANGES)
    if after["revision"] != before["revision"]:
        free |= _MOVES
    if told.act == "adapt" and told.status == 200:
        free |= {"predictions"}  # answered for this query, by a model that another order made
    return next((part for part in after if part not in free and before.get(part) != after[part]), None)


def _tokens(body: str) -> dict[str, str]:
    """The parts of a body, numbers as they are written and keys in the order they have."""
    parts = json.loads(body, parse_float=str, parse_int=str)
    return {part: json.dumps(value) for part, value in parts.items()}


def alike(before: Any, now: Any) -> bool:
    """The same, but for the last digits of numbers."""
    if isinstance(before, dict):
        return isinstance(now, dict) and before.keys() == now.keys() and all(alike(before[k], now[k]) for k in before)
    if isinstance(before, list):
        return isinstance(now, list) and len(before) == len(now) and all(map(alike, before, now))
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=_ALIKE, abs_tol=_ALIKE)
    return bool(before == now)
