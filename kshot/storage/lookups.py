"""What nearly every request asks first: its key, the adapted model or the alias it names.

All that is asked for in one turn of the event loop, or while the round trip before is under way, is one statement:
prepared once, on a connection of its own. Nothing is remembered, so a revoked key ends at once.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import Expired, NotFound, Unauthenticated
from kshot.contracts.selection import CheckpointRef
from kshot.contracts.tasks import Failure, TargetSpec
from kshot.storage.access import PREFIX_LENGTH, Role
from kshot.storage.adapted_models import EXPIRED, UNKNOWN
from kshot.storage.database import is_away
from kshot.storage.quotas import NO_QUOTAS, Quotas
from kshot.storage.sessions import digest_of

_QUESTIONS = """unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
    WITH ORDINALITY AS q (prefix, tenant, model, name, alias, n)"""
_QUESTIONS_WITH_SESSIONS = """(
    SELECT coalesce(sk.prefix, u.prefix) AS prefix, u.tenant, u.model, u.name, u.alias, u.n
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
        WITH ORDINALITY AS u (prefix, tenant, model, name, alias, session, n)
    LEFT JOIN sessions s ON s.sha256 = u.session AND s.expires_at > now()
    LEFT JOIN api_keys sk ON sk.id = s.key_id
) q"""
"""The same, where a browser's session may stand for a key. Asked only where one does: callers with keys do not pay."""
_STATEMENT = """
SELECT k.id AS key, k.tenant_id AS tenant, k.role, k.sha256,
    k.revoked_at IS NOT NULL OR coalesce(k.expires_at < now(), false) AS ended,
    (SELECT true FROM api_keys LIMIT 1) AS keys_exist,
    m.id AS model, m.checkpoint_id, m.checkpoint_name, m.alias, m.task, m.input_shape::text AS input_shape,
    CASE WHEN m.task = 'multitask' THEN m.targets::text END AS targets, m.task_id,
    m.expires_at < now() AND NOT m.pinned AS expired, t.status, t.failure::text AS failure,
    a.checkpoint_id AS resolved,
    (SELECT to_jsonb(quotas)::text FROM quotas WHERE tenant_id = coalesce(k.tenant_id, q.tenant)) AS quotas
FROM {questions}
LEFT JOIN api_keys k ON k.prefix = q.prefix
LEFT JOIN LATERAL (
    SELECT * FROM adapted_models
    WHERE id = q.model AND tenant_id = coalesce(k.tenant_id, q.tenant) AND deleted_at IS NULL OFFSET 0
) m ON true
LEFT JOIN LATERAL (SELECT status, failure FROM tasks WHERE id = m.task_id OFFSET 0) t ON true
LEFT JOIN aliases a ON a.name = q.name AND a.alias = q.alias
ORDER BY q.n
"""
_BY_INDEX = """SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
SET plan_cache_mode = force_generic_plan"""
"""The plan is made once (left to itself, Postgres would make it anew each time: six times what it takes to carry it
out), maybe while the tables are small: each row is found by its index nevertheless. `OFFSET 0` keeps the planner from
joining all models of a tenant with their tasks first."""
_MOST = 256
"""Questions of one statement."""


@dataclass(frozen=True)
class Question:
    """What one request asks for. A key by its secret, or by the secret of a ``session``, or else ``tenant``; of that
    tenant ``model``; an alias."""

    secret: str | None = None
    session: str | None = None
    tenant: str | None = None
    model: str | None = None
    name: str | None = None
    alias: str | None = None


@dataclass(frozen=True)
class Servable:
    """What predicting needs to know about an adapted model; see AdaptedModel. ``targets`` only of a multitask."""

    id: str
    checkpoint: str | None
    checkpoint_name: str | None
    alias: str | None
    task: str
    targets: tuple[TargetSpec, ...]
    input_shape: tuple[int, ...]
    task_id: str
    status: str
    failure: Failure | None

    @property
    def made_with(self) -> CheckpointRef:
        """Its checkpoint, once it is made."""
        assert self.checkpoint is not None and self.checkpoint_name is not None
        return CheckpointRef(id=self.checkpoint, name=self.checkpoint_name, alias=self.alias)


@dataclass(frozen=True)
class KnownKey:
    """A key that holds: its id, tenant and role."""

    id: str
    tenant: str
    role: Role


class Found:
    """The answer to a question; each part is read when it is asked for."""

    def __init__(self, question: Question, row: Any) -> None:
        self._question = question
        self._row = row

    @property
    def keys_exist(self) -> bool:
        """Whether any key was ever made."""
        return bool(self._row["keys_exist"])

    @property
    def quotas(self) -> Quotas:
        """What was set for the tenant."""
        found = self._row["quotas"]
        return NO_QUOTAS if found is None else Quotas.of(orjson.loads(found))

    @property
    def checkpoint(self) -> str | None:
        """The id of the checkpoint that the alias points at; None: no such alias."""
        found: str | None = self._row["resolved"]
        return found

    def key(self) -> KnownKey:
        """The key behind the secret. Unauthenticated: unknown, revoked or expired, in one wording."""
        row = self._row
        if self._question.session is not None:
            if row["key"] is None or row["ended"]:
                raise Unauthenticated("the session has ended; sign in again")
            return KnownKey(row["key"], row["tenant"], row["role"])
        digest = hashlib.sha256((self._question.secret or "").encode()).digest()
        matches = hmac.compare_digest(row["sha256"] or bytes(32), digest)
        if row["key"] is None or not matches or row["ended"]:
            raise Unauthenticated("the API key is unknown, revoked or expired")
        return KnownKey(row["key"], row["tenant"], row["role"])

    def model(self) -> Servable:
        """The adapted model. NotFound: unknown, deleted or another tenant's. Expired: past its time."""
        row = self._row
        if row["model"] is None:
            raise NotFound(UNKNOWN)
        if row["expired"]:
            raise Expired(EXPIRED)
        targets, failure = row["targets"], row["failure"]
        return Servable(
            id=row["model"],
            checkpoint=row["checkpoint_id"],
            checkpoint_name=row["checkpoint_name"],
            alias=row["alias"],
            task=row["task"],
            targets=() if targets is None else tuple(map(_target, orjson.loads(targets))),
            input_shape=tuple(orjson.loads(row["input_shape"])),
            task_id=row["task_id"],
            status=row["status"],
            failure=None if failure in (None, "null") else Failure.model_validate(orjson.loads(failure)),
        )


class Lookups:
    """One per API process. Takes one connection of the pool and keeps it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._asked: list[tuple[Question, asyncio.Future[Found]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._held: Any = None
        self._statements: dict[bool, Any] = {}

    def find(self, question: Question) -> "asyncio.Future[Found]":
        """The answer, as of now. The future ends in the driver's error where Postgres is away."""
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._asked.append((question, future))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return future

    async def close(self) -> None:
        """Close the connection."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        self._let_go()

    async def _ask_all(self) -> None:
        try:
            while self._asked:
                now, self._asked = self._asked[:_MOST], self._asked[_MOST:]
                await self._answer(now)
        finally:
            self._asking = None

    async def _answer(self, asked: Sequence[tuple[Question, "asyncio.Future[Found]"]]) -> None:
        try:
            rows = await self._rows([question for question, _ in asked])
        except BaseException as error:
            for _, future in asked:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else ConnectionError("closed"))
            if not isinstance(error, Exception):
                raise
            return
        for (question, future), row in zip(asked, rows, strict=True):
            if not future.done():
                future.set_result(Found(question, row))

    async def _rows(self, questions: Sequence[Question]) -> Sequence[Any]:
        columns: list[list[Any]] = [
            [None if q.secret is None else q.secret[:PREFIX_LENGTH] for q in questions],
            [q.tenant for q in questions],
            [q.model for q in questions],
            [q.name for q in questions],
            [q.alias for q in questions],
        ]
        with_sessions = any(q.session is not None for q in questions)
        if with_sessions:
            columns.append([None if q.session is None else digest_of(q.session) for q in questions])
        fresh = self._held is None
        try:
            return await self._fetch(columns, with_sessions)
        except Exception as error:
            if fresh or not is_away(error):
                raise
        # The connection had been lost, maybe with a Postgres that is back by now.
        return await self._fetch(columns, with_sessions)

    async def _fetch(self, columns: list[list[Any]], with_sessions: bool) -> Sequence[Any]:
        try:
            if self._held is None:
                self._held = await self._engine.raw_connection()
                await self._held.driver_connection.execute(_BY_INDEX)
            statement = self._statements.get(with_sessions) or await self._prepare(with_sessions)
            rows: Sequence[Any] = await statement.fetch(*columns)
            return rows
        except BaseException:
            self._let_go()
            raise

    async def _prepare(self, with_sessions: bool) -> Any:
        text = _STATEMENT.format(questions=_QUESTIONS_WITH_SESSIONS if with_sessions else _QUESTIONS)
        self._statements[with_sessions] = await self._held.driver_connection.prepare(text)
        return self._statements[with_sessions]

    def _let_go(self) -> None:
        """End the connection; the pool makes another one in its place."""
        held, self._held, self._statements = self._held, None, {}
        if held is not None:
            held.driver_connection.terminate()
            held.detach()


def _target(stored: dict[str, Any]) -> TargetSpec:
    return TargetSpec(name=stored["name"], kind=stored["kind"], classes=tuple(stored["classes"]))
