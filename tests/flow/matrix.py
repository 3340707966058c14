"""What the matrix of access is generated from: of each operation of the document who may use it, what it is used on and
how to make one, and what the audit log says afterwards. A route that is missing here fails the test."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx

from kshot.contracts.ids import new_id
from tests.flow.conftest import Query
from tests.flow.http_stack import vector_task

JOB = {"name": "matrix", "steps": 5}
EXAMPLES = {"support": {"inputs": [[0, 0, 0, 0]], "labels": ["left"]}}
_numbers = count()


@dataclass(frozen=True)
class World:
    """Where objects are made: ``owner`` is an administrator of the tenant that owns them."""

    owner: httpx.Client
    query: Query
    tenant: str

    def made(self, method: str, path: str, body: object = None) -> Any:
        answer = self.owner.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def model(self) -> str:
        made_id: str = self.made("POST", "/adapt", vector_task(next(_numbers)))["id"]
        return made_id

    def key(self) -> str:
        made_id: str = self.made("POST", "/v1/api-keys", {"name": "object"})["id"]
        return made_id

    def dataset(self) -> str:
        name = f"matrix-{next(_numbers)}"
        made_id: str = self.made("POST", "/v1/datasets", {"name": name, "source": "sinusoid"})["id"]
        return made_id

    def job(self) -> str:
        """Nobody trains in this stack, so it waits."""
        made_id: str = self.made("POST", "/v1/training-jobs", {**JOB, "dataset": self.dataset()})["id"]
        return made_id

    def end_jobs(self) -> None:
        """Nobody may find them later."""
        listed = self.owner.get("/v1/training-jobs", params={"name": "matrix", "limit": 100}).json()["data"]
        for job in listed:
            self.owner.post(f"/v1/training-jobs/{job['id']}/cancel")

    def paused_job(self) -> str:
        job = self.job()
        self.made("POST", f"/v1/training-jobs/{job}/pause")
        return job

    def checkpoint(self, name: str = "matrix") -> str:
        """A row like that of ``plain``, which nothing needs."""
        checkpoint = new_id("ckpt")
        self.query(
            "INSERT INTO checkpoints (id, name, content_sha256, manifest, object_key, bytes) "
            "SELECT $1, $2::text, $1, jsonb_set(manifest, '{name}', to_jsonb($2::text)), 'checkpoints/' || $1, bytes "
            "FROM checkpoints WHERE name = 'plain' LIMIT 1",
            checkpoint,
            name,
        )
        return checkpoint

    def alias(self) -> str:
        """One that has moved once; ``matrix@base`` leads elsewhere."""
        name = f"matrix@moving-{next(_numbers)}"
        for moved in (name, name, "matrix@base"):
            self.made("PUT", f"/v1/aliases/{moved}", {"checkpoint": self.checkpoint()})
        return name

    def promotion(self) -> str:
        promotion, name = new_id("pro"), f"matrix-{next(_numbers)}"
        self.query(
            "INSERT INTO promotions (id, tenant_id, name, alias, challenger_id, incumbent_id, alias_version, "
            "dataset_id, status) SELECT $1, t.id, $2, 'production', $3, $3, 1, $4, 'failed' FROM tenants t "
            "WHERE t.name = $5",
            promotion,
            name,
            self.checkpoint(name),
            self.dataset(),
            self.tenant,
        )
        return promotion

    def own_tenant(self) -> str:
        return self.tenant


@dataclass(frozen=True)
class Operation:
    """``makes``: how to make what the path, or the body, names; ``body``: from its id. ``owned``: a tenant's own, which
    no other sees. ``creates``: also what is missing. ``writes``: rows of the audit log."""

    makes: Callable[[World], str] | None = None
    body: Callable[[str], object] | None = None
    admins: bool = False
    owned: bool = False
    public: bool = False
    creates: bool = False
    writes: int = 0


def _of(body: object) -> Callable[[str], object]:
    return lambda _: body


def _new(**fields: object) -> Callable[[str], object]:
    """A body with a name of its own."""
    return lambda _: {"name": f"matrix-{next(_numbers)}", **fields}


def _predict(id: str) -> object:
    return {"model": id, "inputs": [[1, 2, 3, 4]]}


def _job(dataset: str) -> object:
    return {**JOB, "dataset": dataset}


_ADAPT = Operation(body=lambda _: vector_task(next(_numbers)), writes=1)
_PREDICT = Operation(World.model, _predict, owned=True)
_READ_ALL = Operation()
_LIST = Operation(admins=True)

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/healthz"): Operation(public=True),
    ("get", "/readyz"): Operation(public=True),
    ("get", "/metrics"): _LIST,
    ("get", "/v1/system"): _LIST,
    ("get", "/v1/limits"): _READ_ALL,
    ("get", "/v1/usage"): _READ_ALL,
    ("post", "/adapt"): _ADAPT,
    ("post", "/v1/adapt"): _ADAPT,
    ("post", "/predict"): _PREDICT,
    ("post", "/v1/predict"): _PREDICT,
    ("get", "/v1/adapted-models"): _READ_ALL,
    ("get", "/v1/adapted-models/{id}"): Operation(World.model, owned=True),
    ("get", "/v1/adapted-models/{id}/history"): Operation(World.model, owned=True),
    ("patch", "/v1/adapted-models/{id}"): Operation(World.model, _of({"pinned": True}), owned=True, writes=1),
    ("delete", "/v1/adapted-models/{id}"): Operation(World.model, owned=True, writes=1),
    ("post", "/v1/adapted-models/{id}/examples"): Operation(World.model, _of(EXAMPLES), owned=True, writes=1),
    ("post", "/v1/adapted-models/{id}/feedback"): Operation(
        World.model, _of({"inputs": [[1, 2, 3, 4]], "labels": ["left"]}), owned=True, writes=1
    ),
    ("get", "/v1/recording"): _READ_ALL,
    ("put", "/v1/recording"): Operation(body=_of({"enabled": False}), writes=1),
    ("get", "/v1/checkpoints"): _READ_ALL,
    ("get", "/v1/checkpoints/{id}"): Operation(World.checkpoint),
    ("delete", "/v1/checkpoints/{id}"): Operation(World.checkpoint, admins=True, writes=1),
    ("get", "/v1/aliases"): _READ_ALL,
    ("get", "/v1/aliases/{name}"): Operation(World.alias),
    ("get", "/v1/aliases/{name}/history"): Operation(World.alias),
    ("put", "/v1/aliases/{name}"): Operation(
        World.alias, _of({"checkpoint": "matrix@base"}), admins=True, creates=True, writes=1
    ),
    ("post", "/v1/aliases/{name}/rollback"): Operation(World.alias, admins=True, writes=1),
    ("get", "/v1/promotions"): _LIST,
    ("get", "/v1/promotions/{id}"): Operation(World.promotion, admins=True),
    ("post", "/v1/datasets"): Operation(body=_new(source="sinusoid"), admins=True, writes=1),
    ("get", "/v1/datasets"): _LIST,
    ("get", "/v1/datasets/{id}"): Operation(World.dataset, admins=True),
    ("get", "/v1/datasets/{id}/samples"): Operation(World.dataset, admins=True),
    ("delete", "/v1/datasets/{id}"): Operation(World.dataset, admins=True, writes=1),
    ("post", "/v1/api-keys"): Operation(body=_new(), admins=True, writes=1),
    ("get", "/v1/api-keys"): _LIST,
    ("post", "/v1/api-keys/{id}/rotate"): Operation(World.key, _of({"grace_seconds": 0}), admins=True, writes=1),
    ("delete", "/v1/api-keys/{id}"): Operation(World.key, admins=True, writes=1),
    ("get", "/v1/tenants"): _LIST,
    ("get", "/v1/tenants/{tenant}"): Operation(World.own_tenant, admins=True),
    ("put", "/v1/tenants/{tenant}/quotas"): Operation(World.own_tenant, _of({}), admins=True, writes=1),
    ("get", "/v1/audit"): _LIST,
    ("post", "/v1/training-jobs"): Operation(World.dataset, _job, admins=True, writes=1),
    ("post", "/v1/training-plans"): Operation(World.dataset, _job, admins=True),
    ("get", "/v1/training-jobs"): _LIST,
    ("get", "/v1/training-jobs/{id}"): Operation(World.job, admins=True),
    ("get", "/v1/training-jobs/{id}/events"): Operation(World.job, admins=True),
    ("post", "/v1/training-jobs/{id}/cancel"): Operation(World.job, admins=True, writes=1),
    ("post", "/v1/training-jobs/{id}/pause"): Operation(World.job, admins=True, writes=1),
    ("post", "/v1/training-jobs/{id}/resume"): Operation(World.paused_job, admins=True, writes=1),
}
MISSING = {
    "/v1/adapted-models": new_id("am"),
    "/v1/checkpoints": new_id("ckpt"),
    "/v1/aliases": "matrix@nobody-made-this",
    "/v1/promotions": new_id("pro"),
    "/v1/datasets": new_id("ds"),
    "/v1/api-keys": new_id("key"),
    "/v1/tenants": new_id("ten"),
    "/v1/training-jobs": new_id("job"),
    "/v1/training-plans": new_id("ds"),
    "/predict": new_id("am"),
    "/v1/predict": new_id("am"),
}
"""By the beginning of a path: what it never was."""
