"""Checkpoint <-> two buffers: what goes in comes out, and nothing else gets in."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from kshot.checkpoints import (
    Checkpoint,
    dump_checkpoint,
    load_checkpoint,
    parse_checkpoint,
    read_manifest,
    save_checkpoint,
)
from kshot.contracts.checkpoints import EncoderSpec, ImageInput, LearnerSpec, Lineage, Manifest, VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array, pack, unpack
from kshot.encoders.registry import build_encoder


def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    spec, inputs = EncoderSpec(name="conv4", options={"channels": 8}), ImageInput(height=16, width=16, channels=1)
    encoder = build_encoder(spec, inputs)
    encoder.embed(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 1), dtype=np.uint8), torch.device("cpu"))
    return Checkpoint(manifest(spec, inputs), encoder.eval(), {"log_scale": torch.tensor(0.5)})


def manifest(encoder: EncoderSpec, inputs: ImageInput | VectorInput) -> Manifest:
    return Manifest(
        name="tried",
        description="for tests",
        tasks=("classification",),
        input=inputs,
        encoder=encoder,
        learner=LearnerSpec(name="protonet"),
        lineage=Lineage(command="none", code_version="0", created_at=datetime(2026, 1, 1, tzinfo=UTC)),
    )


def test_a_saved_checkpoint_embeds_the_same(tmp_path: Path) -> None:
    made = checkpoint()
    save_checkpoint(tmp_path / "tried", made)
    loaded = load_checkpoint(tmp_path / "tried")
    x = torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(loaded.encoder(x), made.encoder(x), rtol=0, atol=0)
    assert loaded.head["log_scale"].equal(made.head["log_scale"])
    assert not loaded.encoder.training
    assert read_manifest(tmp_path / "tried").name == "tried"
    assert sorted(file.name for file in (tmp_path / "tried").iterdir()) == ["manifest.json", "weights.safetensors"]


def test_the_same_checkpoint_gives_the_same_bytes() -> None:
    assert dump_checkpoint(checkpoint()) == dump_checkpoint(checkpoint())


def test_a_checkpoint_without_tensors_is_one() -> None:
    spec = EncoderSpec(name="identity")
    bare = Checkpoint(manifest(spec, VectorInput()), build_encoder(spec, VectorInput()).eval(), {})
    assert parse_checkpoint(*dump_checkpoint(bare)).head == {}


def changed(change: Callable[[dict[str, Array]], dict[str, Array]]) -> tuple[bytes, bytes]:
    """The checkpoint's buffers with other tensors, the sha256 fitted to them."""
    document, weights = dump_checkpoint(checkpoint())
    weights = pack({}, change(unpack(weights)[1]))
    return resealed(document, weights), weights


def resealed(document: bytes, weights: bytes) -> bytes:
    fields = json.loads(document)
    fields["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    return json.dumps(fields).encode()


FIRST = "encoder.blocks.0.conv.weight"


@pytest.mark.reliability("bad input: safetensors", "checkpoints")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if k != FIRST}, "tensors differ"),
        (lambda t: t | {"encoder.extra": t[FIRST]}, "tensors differ"),
        (lambda t: t | {"other": t[FIRST]}, "neither encoder nor head"),
        (lambda t: t | {FIRST: t[FIRST][:4]}, "shape"),
        (lambda t: t | {FIRST: t[FIRST].astype(np.float64)}, "not float32"),
        (lambda t: t | {FIRST: t[FIRST] * np.float32(np.nan)}, "not finite"),
        (lambda t: t | {"head.log_scale": np.array(np.inf, np.float32)}, "not finite"),
    ],
)
def test_wrong_tensors_are_refused(change: Callable[[dict[str, Array]], dict[str, Array]], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse_checkpoint(*changed(change))


def test_other_weights_than_the_manifest_names_are_refused() -> None:
    document, weights = dump_checkpoint(checkpoint())
    spoiled = weights[:-1] + bytes([weights[-1] ^ 1])
    with pytest.raises(Invalid, match="sha256"):
        parse_checkpoint(document, spoiled)


@pytest.mark.reliability("bad input: safetensors", "checkpoints")
@pytest.mark.parametrize(
    "spoil", [lambda w: w[:-4], lambda w: w + b"\0\0\0\0", lambda w: b"\xff" * 8 + w[8:], lambda w: b""]
)
def test_broken_safetensors_are_refused(spoil: Callable[[bytes], bytes]) -> None:
    document, weights = dump_checkpoint(checkpoint())
    weights = spoil(weights)
    with pytest.raises(Invalid, match="safetensors"):
        parse_checkpoint(resealed(document, weights), weights)


@pytest.mark.parametrize("document", [b"", b"{}", b"[1]", b"\xff", b'{"format": "kshot-checkpoint/2"}'])
def test_what_is_no_manifest_is_refused(document: bytes) -> None:
    with pytest.raises(Invalid, match="manifest"):
        parse_checkpoint(document, b"")


def test_nan_is_never_written() -> None:
    made = checkpoint()
    with pytest.raises(Invalid, match="not finite"):
        dump_checkpoint(Checkpoint(made.manifest, made.encoder, {"log_scale": torch.tensor(float("nan"))}))


def test_a_missing_folder_is_said_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        load_checkpoint(tmp_path / "absent")
    assert str(tmp_path) not in caught.value.message
