"""What our own processes write and read again, whole."""

from datetime import UTC, datetime

import numpy as np
import torch

from kshot.checkpoints import Checkpoint, dump_checkpoint
from kshot.contracts.checkpoints import EncoderSpec, ImageInput, InputSpec, LearnerSpec, Lineage, Manifest, VectorInput
from kshot.contracts.tasks import Doorbell, LearnerOptions, Payload, PredictCall, Quality, Reply, SupportSet
from kshot.encoders.registry import build_encoder
from kshot.episodes.recorded import RecordedTask, write_recorded
from kshot.learners.base import State
from kshot.learners.state import dump_state
from kshot.queue.streams import SENT_AT, VERSION
from tests.fuzzing.files import in_memory


def lying_header() -> bytes:
    """A header as long as a disk."""
    return (2**40).to_bytes(8, "little") + b"{}" + b" " * 1000


def payloads() -> tuple[bytes, ...]:
    vectors = SupportSet("classification", np.ones((2, 3), np.float32), np.array([0, 1]), ("a", "b"))
    texts = SupportSet("regression", ["x", "y"], np.array([[0.5], [1]], np.float32))
    return (
        Payload(vectors, np.zeros((1, 3), np.float32), LearnerOptions(learner="ridge", l2=0.5)).encode(),
        Payload(texts, ["z"]).encode(),
        Payload(None, np.zeros((1, 8, 6, 1), np.uint8)).encode(),
    )


def states() -> tuple[bytes, ...]:
    quality = Quality(method="leave_one_out", accuracy=1.0, macro_f1=1.0, n=4, reliable=False)
    one = State("classification", 2, {"weight": torch.eye(2), "bias": torch.zeros(2)}, quality)
    return dump_state(one), dump_state(State("regression", 0, {"weight": torch.ones(3, 1)}, None))


def recorded_files() -> tuple[bytes, ...]:
    vectors = [
        RecordedTask(f"{_ID[:-1]}{i}", np.full((4, 3), i, np.float32), labels=["a", "b", "a", "c"], models=[_ID])
        for i in range(3)
    ]
    texts = [RecordedTask(f"{_ID[:-1]}{i}", ["x", "grün"], labels=["1", "2"]) for i in range(2)]
    numbers = [
        RecordedTask(f"{_ID[:-1]}{i}", np.full((3, 2), i, np.float32), values=np.ones((3, 1), np.float32))
        for i in range(2)
    ]
    return tuple(_written(tasks) for tasks in (vectors, texts, numbers))


def _written(tasks: list[RecordedTask]) -> bytes:
    file = in_memory(b"")
    write_recorded(file, tasks)
    return file.read_bytes()


def checkpoints() -> tuple[bytes, ...]:
    image, vector = ImageInput(height=16, width=16, channels=1), VectorInput(width=2)
    return (
        _dumped(image, EncoderSpec(name="conv4", options={"channels": 2}), "protonet"),
        _dumped(vector, EncoderSpec(name="mlp", options={"hidden": [3, 3]}), "ridge"),
        _dumped(VectorInput(), EncoderSpec(name="identity"), "ridge"),
        _dumped(vector, EncoderSpec(name="hierarchy", options={"levels": [[4], [3]]}), "ridge"),
    )


def _dumped(inputs: InputSpec, encoder: EncoderSpec, learner: str) -> bytes:
    torch.manual_seed(0)
    manifest = Manifest(
        name="tried",
        description="",
        tasks=("classification",),
        input=inputs,
        encoder=encoder,
        learner=LearnerSpec(name=learner),
        lineage=Lineage(command="none", code_version="0", created_at=datetime(2026, 1, 1, tzinfo=UTC)),
    )
    made = Checkpoint(manifest, build_encoder(encoder, inputs).eval(), {"log_scale": torch.tensor(0.5)})
    return BETWEEN.join(dump_checkpoint(made))


def messages() -> tuple[bytes, ...]:
    call = PredictCall(
        id="pred_01J9ZK3V7Q8W5R2M4N6P0T1XYA",
        tenant="t",
        checkpoint="c",
        model=_ID,
        reply_to="kshot:reply:x",
        deadline_ms=1000,
    )
    bell = Doorbell(task_id="task_01J9ZK3V7Q8W5R2M4N6P0T1XYA", reply_to=None)
    reply = Reply(id=call.id, predictions=[{"label": "a", "probabilities": {"a": 1.0}}])
    version, at = VERSION.encode(), b"1795391616216"
    return (
        UNIT.join([b"v", version, b"call", call.model_dump_json().encode(), b"payload", b"x"]),
        UNIT.join([b"v", version, b"bell", bell.model_dump_json().encode(), SENT_AT, at, b"from", b"kshot:adapt"]),
        UNIT.join([b"v", version, b"reply", reply.model_dump_json().encode()]),
    )


UNIT = b"\x1f"


BETWEEN = b"\0\0between\0\0"


_ID = "am_01J9ZK3V7Q8W5R2M4N6P0T1XYA"
