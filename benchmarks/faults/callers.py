"""Callers of tenants: each adapts, predicts, adds examples, gives feedback, deletes, asks for what is not its own."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

from benchmarks.faults.asking import Line, pause
from benchmarks.faults.ledger import Told
from benchmarks.faults.orders import FORMS, Order

_TWINS = 40
_THOUGHT_S = 0.08
_MOST_OWNED = 200
_MEANWHILE = 0.4
"""How often a caller deletes a follower, rather than do something else, while its alias is about to move."""
_TRIES = 3  # of a prediction, which needs more parts than an adaptation
_PENDING = ("queued", "running")


@dataclass
class Shared:
    """What callers know of each other. ``owned``: some models of each tenant, for others to ask for."""

    numbers: "count[int]" = field(default_factory=count)
    owned: dict[str, list[str]] = field(default_factory=dict)
    with_waves: bool = False
    """Whether there is a checkpoint of jobs in production to adapt to."""
    moving: bool = False
    """Whether the administrator is about to move its alias."""


class Caller:
    """Works until the day is over."""

    def __init__(self, line: Line, shared: Shared, seed: str) -> None:
        self._line, self._shared = line, shared
        self._rng = random.Random(seed)
        self._made: list[tuple[str, Order]] = []

    async def work(self) -> None:
        acts: list[tuple[Callable[[], Awaitable[object]], int]] = [
            (self._adapt, 30),
            (self._predict, 34),
            (self._predict_at_once, 6),
            (self._add_examples, 6),
            (self._delete, 5),
            (self._change_its_mind, 3),
            (self._look, 8),
            (self._pry, 5),
        ]
        while not self._line.over.is_set():
            act = self._rng.choices([act for act, _ in acts], [weight for _, weight in acts])[0]
            await (self._delete_follower if self._shared.moving and self._rng.random() < _MEANWHILE else act)()
            await pause(self._line.over, self._rng.expovariate(1 / _THOUGHT_S))

    async def _adapt(self) -> None:
        order = self._order()
        told = await self._send(order, "/v1/adapt", self._rng.choice(["wait=5", "respond-async", ""]))
        if told.is_accepted:
            self._keep(told.json()["id"], order)
            if told.status == 202 and self._rng.random() < 0.5:
                await self._wait_for(told.json()["id"])

    async def _send(self, order: Order, path: str, prefer: str) -> Told:
        headers = {} if order.key is None else {"Idempotency-Key": order.key}
        headers |= {"Prefer": prefer} if prefer else {}
        about = {"order": order.plain()}
        return await self._line.ask("adapt", "POST", path, about, body=order.body(), headers=headers)

    def _order(self) -> Order:
        number, twin = next(self._shared.numbers), self._rng.random() < 0.25
        forms = [form for form in FORMS if form != "waves" or self._shared.with_waves]
        form = self._rng.choices(forms, [1 if name == "auto" else 2 for name in forms])[0]
        return Order(
            number=number,
            tenant=self._line.tenant,
            form=form,
            seed=self._rng.randrange(_TWINS) if twin else 1000 + number,
            twin=twin,
            with_query=twin or self._rng.random() < 0.7,
            key=self._key(number),
        )

    def _key(self, number: int) -> str | None:
        return f"key-{number}" if self._rng.random() < 0.5 else None

    def _keep(self, id: str, order: Order) -> None:
        self._made = [*self._made, (id, order)][-_MOST_OWNED:]
        shown = self._shared.owned.setdefault(self._line.tenant, [])
        shown.append(id)
        del shown[:-_MOST_OWNED]

    async def _wait_for(self, id: str) -> None:
        while not self._line.over.is_set():
            told = await self._line.ask("get", "GET", f"/v1/adapted-models/{id}?wait=3", {"model": id})
            if not told.is_accepted or told.json()["status"] not in _PENDING:
                return

    async def _predict(self) -> None:
        if not self._made:
            return
        model, order = self._rng.choice(self._made)
        told = await self._predict_with(model, order, _TRIES)
        if told.is_accepted and self._rng.random() < 0.2 and order.form not in ("joint", "numbers", "waves"):
            await self._give_feedback(model, order, told)

    async def _predict_with(self, model: str, order: Order, tries: int) -> Told:
        salt = self._rng.randrange(1000)
        about = {"order": order.plain(), "model": model, "salt": salt}
        body = {"model": model, "inputs": order.inputs(salt), "store": self._rng.random() < 0.3}
        headers = {"Prefer": "wait=5"}
        return await self._line.ask("predict", "POST", "/predict", about, body=body, headers=headers, tries=tries)

    async def _give_feedback(self, model: str, order: Order, told: Told) -> None:
        number, prediction = next(self._shared.numbers), told.json()["id"]
        labels = self._rng.choices(sorted(set(order.support()[1])), k=len(told.json()["predictions"]))
        about = {"model": model, "prediction": prediction, "number": number}
        await self._line.ask(
            "feedback", "POST", f"/v1/adapted-models/{model}/feedback", about,
            body={"prediction": prediction, "labels": labels}, headers={"Idempotency-Key": f"feedback-{number}"},
        )  # fmt: skip

    async def _predict_at_once(self) -> None:
        order = self._order()
        if order.form in ("steps", "slow", "waves", "auto"):
            return
        body = order.body()
        salt = self._rng.randrange(1000)
        sent = {name: body[name] for name in ("checkpoint", "options", "support")} | {"inputs": order.inputs(salt)}
        about = {"order": order.plain(), "model": None, "salt": salt}
        await self._line.ask("predict", "POST", "/v1/predict", about, body=sent, tries=_TRIES)

    async def _add_examples(self) -> None:
        grown = [(model, order) for model, order in self._made if order.form not in ("waves", "auto", "slow")]
        if not grown:
            return
        parent, order = self._rng.choice(grown)
        number = next(self._shared.numbers)
        more = order.grown(number, parent, self._key(number))
        told = await self._send(more, f"/v1/adapted-models/{parent}/examples", "wait=5")
        if told.is_accepted:
            self._keep(told.json()["id"], more)

    async def _delete(self) -> None:
        """Only what no other caller may have been given as well."""
        mine = [(model, order) for model, order in self._made if not order.twin]
        if len(mine) < 3:
            return
        await self._delete_one(*self._rng.choice(mine))

    async def _delete_follower(self) -> None:
        """In the very moment its alias moves, with luck."""
        followers = [(model, order) for model, order in self._made if FORMS[order.form].follow and not order.twin]
        if followers:
            await self._delete_one(*self._rng.choice(followers))

    async def _delete_one(self, model: str, order: Order) -> None:
        """While it is asked something, at times: what is recorded of it then must go, too."""
        self._made.remove((model, order))
        about = {"model": model}
        deleting = self._line.ask("delete", "DELETE", f"/v1/adapted-models/{model}", about)
        if self._rng.random() < 0.5:
            told, _ = await asyncio.gather(deleting, self._predict_with(model, order, 1))
        else:
            told = await deleting
        if told.is_accepted:
            await self._line.ask("get", "GET", f"/v1/adapted-models/{model}", about, tries=1)

    async def _change_its_mind(self) -> None:
        """Delete what is still being made: that cancels it."""
        order = self._order()
        if order.twin:
            return
        told = await self._send(order, "/v1/adapt", "respond-async")
        if told.is_accepted:
            self._keep(told.json()["id"], order)
            await self._delete_one(told.json()["id"], order)

    async def _look(self) -> None:
        if self._made:
            model, _ = self._rng.choice(self._made)
            await self._line.ask("get", "GET", f"/v1/adapted-models/{model}", {"model": model}, tries=1)

    async def _pry(self) -> None:
        """Ask for another tenant's model: it must be as if it were not there."""
        others = [
            model for tenant, models in self._shared.owned.items() if tenant != self._line.tenant for model in models
        ]
        if not others:
            return
        model = self._rng.choice(others)
        path, about = f"/v1/adapted-models/{model}", {"model": model}
        rows = {"inputs": [[0.0] * 8], "labels": ["any-0"]}
        asked = self._rng.randrange(4)
        if asked == 0:
            await self._line.ask("pry", "GET", path, about, tries=1)
        elif asked == 1:
            await self._line.ask("pry", "DELETE", path, about, tries=1)
        elif asked == 2:
            await self._line.ask(
                "pry", "POST", "/predict", about, body={"model": model, "inputs": [[0.0] * 8]}, tries=1
            )
        else:
            await self._line.ask("pry", "POST", f"{path}/examples", about, body={"support": rows}, tries=1)
