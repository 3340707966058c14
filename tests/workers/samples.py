"""Small real checkpoints and work for the worker's parts."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import EncoderSpec, LearnerSpec, Lineage, Manifest, VectorInput
from kshot.contracts.tasks import AnswerOptions, LearnerOptions, Payload, PredictCall, SupportSet
from kshot.encoders.registry import build_encoder
from kshot.learners.registry import get_learner
from kshot.queue.work import Delivered
from kshot.storage.tasks import Claim
from workers.decoding import adapt_work
from workers.work import Adapted, Key, Solved, Work

WIDTH = 4


def checkpoint(learner: str = "protonet") -> Checkpoint:
    """Untrained; vectors go in as they are."""
    encoder = build_encoder(EncoderSpec(name="identity"), VectorInput())
    head = get_learner(learner).init_head(encoder, "classification", None, torch.Generator().manual_seed(0))
    manifest = Manifest(
        name=learner,
        description="for tests",
        tasks=("classification", "regression") if learner == "ridge" else ("classification",),
        input=VectorInput(),
        encoder=EncoderSpec(name="identity"),
        learner=LearnerSpec(name=learner),
        lineage=Lineage(command="tests", code_version="0", created_at=datetime(2026, 1, 1, tzinfo=UTC)),
    )
    return Checkpoint(manifest, encoder.eval(), head)


def blobs(seed: int, n_way: int = 2, k_shot: int = 2, width: int = WIDTH) -> SupportSet:
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(n_way), k_shot)
    inputs = (rng.normal(size=(n_way, width))[targets] * 3 + rng.normal(size=(len(targets), width))).astype(np.float32)
    return SupportSet("classification", inputs, targets, tuple(f"s{seed}-{k}" for k in range(n_way)))


def claim(payload: Payload, *, learner: str = "protonet", task_id: str = "task_0", queue_ms: float = 5.0) -> Claim:
    return Claim(
        task_id=task_id, attempt=1, worker="wrk_0", tenant="ten_0", adapted_model="am_0", checkpoint="ckpt_0",
        learner=learner, payload=payload.encode(), reply_to=None, request_id="req_0", queue_ms=queue_ms,
    )  # fmt: skip


def adapt(seed: int = 0, *, ask: bool = False, learner: str = "protonet", **shape: int) -> Work:
    """An adaptation; with ``ask`` its own support comes as the query too."""
    support = blobs(seed, **shape)
    payload = Payload(support, support.inputs if ask else None)
    return adapt_work(claim(payload, learner=learner, task_id=f"task_{seed}"))


def delivered(payload: Payload, message: str = "1-0", **changes: Any) -> Delivered:
    call = PredictCall(
        id="pred_0", tenant="ten_0", checkpoint="ckpt_0", model=None, reply_to="kshot:reply:x", deadline_ms=1000
    ).model_copy(update=changes)
    return Delivered(message.encode(), call, payload.encode(), waited_ms=3.0)


def predict(solved: Solved, query: np.ndarray, **answer: Any) -> Work:
    """A prediction with the model that came of an adaptation."""
    work = solved.work
    assert solved.state is not None
    model = Adapted("ckpt_0", work.key.learner, work.classes, work.columns, work.key.shape, solved.state)
    payload = Payload(query=query, answer=AnswerOptions(**answer))
    key = Key("ckpt_0", "predict", work.key.learner, LearnerOptions(), work.key.task, work.key.shape)
    return Work(key, delivered(payload), payload, model)
