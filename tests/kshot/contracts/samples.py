"""One of everything that front ends and workers tell each other, with no field left at its default.

``python -m tests.kshot.contracts.samples`` writes them to ``golden/`` under the versions of today: after a version was
raised, not instead of raising it.
"""

import json
from pathlib import Path

import numpy as np

from kshot.contracts.model import Model
from kshot.contracts.selection import Candidate, CheckpointRef, Considered, Selection
from kshot.contracts.tasks import (
    PAYLOAD_VERSION,
    AnswerOptions,
    Doorbell,
    Failure,
    Form,
    LearnerOptions,
    Payload,
    PredictCall,
    Quality,
    Reply,
    SupportSet,
    TargetSpec,
    Timings,
)
from kshot.queue.streams import VERSION

FOLDER = Path(__file__).with_name("golden")
_CHECKPOINT = CheckpointRef(id="ckpt_1", name="plain", alias="production")
_VECTORS = np.array([[0.5, -1.0], [2.0, 3.0], [1.5, 0.0]], np.float32)
_CLASSES = SupportSet("classification", _VECTORS, np.array([0, 1, 0]), ("a", 7))
_OPTIONS = LearnerOptions(
    learner="ridge", task="classification", targets={"t": "regression"}, inner_steps=3, inner_lr=0.1, l2=2.0, seed=5
)

MESSAGES: dict[str, Model] = {
    "doorbell": Doorbell(task_id="task_1", reply_to="kshot:reply:evt_1"),
    "call": PredictCall(
        id="pred_1", tenant="ten_1", checkpoint="ckpt_1", model="am_1", task="task_1", reply_to="kshot:reply:evt_1",
        deadline_ms=30_000, store_inputs=True, request_id="req_1",
    ),
    "reply": Reply(
        id="pred_1",
        predictions=[{"label": "a", "probabilities": {"a": 0.75, "b": 0.25}}],
        quality=Quality(
            method="k_fold", folds=5, accuracy=0.75, macro_f1=0.5, mse=1.5, r2=-0.5, n=3, reliable=False
        ),
        timings=Timings(queue_ms=0.5, compute_ms=1.5, batch_size=2),
        checkpoint=_CHECKPOINT,
        selection=Selection(
            considered=(
                Considered(
                    checkpoint=_CHECKPOINT, leave_one_out=0.5, log_likelihood=-1.5, knn=0.25, logme=-0.5, score=0.5,
                    note="none",
                ),
            ),
            reason="the only one",
            reliable=True,
        ),
    ),
    "refusal": Reply(id="pred_1", failure=Failure(code="invalid", message="too few", param="support")),
}  # fmt: skip
PAYLOADS: dict[str, Payload] = {
    "choice": Payload(
        _CLASSES,
        _VECTORS[:1],
        _OPTIONS,
        AnswerOptions(wanted=("labels", "logits", "nearest"), top_k=2, reject_below=0.5),
        candidates=tuple(Candidate(checkpoint=_CHECKPOINT, learner="ridge", form=form) for form in (0, 1)),
        others=(Form(np.arange(12, dtype=np.uint8).reshape(3, 2, 2), np.zeros((1, 2, 2), np.uint8)),),
    ),
    "numbers": Payload(SupportSet("regression", _VECTORS, np.array([[0.5], [1.0], [1.5]], np.float32))),
    "targets": Payload(
        SupportSet(
            "multitask", ["one", "two"], np.array([[0.0, np.nan], [1.0, 2.5]], np.float32),
            columns=(TargetSpec(name="kind", kind="classification", classes=("x", "y")),
                     TargetSpec(name="size", kind="regression")),
        ),
    ),
    "question": Payload(query=["é, and \U0001f600", ""]),
}  # fmt: skip


def message_file(name: str, version: str) -> Path:
    """Where a message of a version lies."""
    return FOLDER / f"{name}.v{version}.json"


def payload_file(name: str, version: int) -> Path:
    """Where a payload of a version lies."""
    return FOLDER / f"payload-{name}.v{version}.safetensors"


if __name__ == "__main__":
    for name, message in MESSAGES.items():
        message_file(name, VERSION).write_text(json.dumps(json.loads(message.model_dump_json()), indent=1) + "\n")
    for name, payload in PAYLOADS.items():
        payload_file(name, PAYLOAD_VERSION).write_bytes(payload.encode())
