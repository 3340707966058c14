"""Decoders of what lies in stores and streams: tensors with a header, states, checkpoints, manifests, messages."""

import hashlib
import json
from typing import Any

import numpy as np

from kshot.checkpoints import parse_checkpoint, parse_manifest
from kshot.contracts.errors import Invalid, Unavailable
from kshot.contracts.model import Model
from kshot.contracts.tasks import Doorbell, Payload, PredictCall, Reply
from kshot.contracts.wire import pack, peek, split, unpack
from kshot.episodes.recorded import (
    measure_recorded,
    read_recorded_pool,
    read_recorded_table,
    recorded_ids,
    recorded_models,
)
from kshot.learners.state import dump_state, load_state
from kshot.queue.streams import SENT_AT, read_message, sent_ms, version_of
from tests.fuzzing.bodies import with_header_length
from tests.fuzzing.decoder import Decoder
from tests.fuzzing.files import in_memory
from tests.fuzzing.stored_samples import (
    BETWEEN,
    UNIT,
    checkpoints,
    lying_header,
    messages,
    payloads,
    recorded_files,
    states,
)
from tests.fuzzing.words import CHECKPOINT, TENSORS


def stored_decoders() -> list[Decoder]:
    """One for each form of what our own processes write and read again, maybe of another version, maybe damaged."""
    payload_words = (
        b"support",
        b"query.inputs",
        b"options",
        b"answer",
        b"candidates",
        b"others",
        b"columns",
        b"classes",
        b"task",
    )
    state_words = (b"quality", b"n_way", b"columns", b"qualities", b"kind", b"task")
    return [
        Decoder(
            "safetensors",
            _tensors,
            (pack({"a": [1]}, {"x": np.eye(2)}), pack({}, {})),
            TENSORS,
            with_header_length,
            (lying_header(),),
        ),
        Decoder("payload", _payload, payloads(), (*TENSORS, *payload_words), with_header_length, (lying_header(),)),
        Decoder("state", _state, states(), (*TENSORS, *state_words), with_header_length, (lying_header(),)),
        Decoder(
            "recorded_tasks",
            _recorded,
            recorded_files(),
            (*TENSORS, b"tasks", b"rows", b"classes", b"models"),
            with_header_length,
        ),
        Decoder("checkpoint", _checkpoint, checkpoints(), CHECKPOINT, _with_digest),
        Decoder("manifest", _manifest, tuple(found.partition(BETWEEN)[0] for found in checkpoints()), CHECKPOINT),
        Decoder(
            "message",
            _message,
            messages(),
            (UNIT, b"v", b"bell", b"call", b"reply", b"payload", SENT_AT, b'"id"', b'"failure"'),
        ),
    ]


def _tensors(data: bytes) -> None:
    """Both ways to read it agree on the header, and no array is larger than what came."""
    arrays = split(data)[1]
    assert sum(array.nbytes for array in arrays.values()) <= len(data)
    header, again = unpack(data)
    assert set(again) == set(arrays)
    try:
        assert peek(data) == header
    except Invalid:
        assert header == {}, "it has no header"


def _payload(data: bytes) -> None:
    try:
        found = Payload.decode(data)
    except Unavailable:  # of another version, for another process
        return
    assert found.support is None or len(found.support.inputs) == len(found.support)
    assert Payload.decode(found.encode()).encode() == found.encode()


def _state(data: bytes) -> None:
    state = load_state(data)
    dump_state(state)


def _recorded(data: bytes) -> None:
    file = in_memory(data)
    measured, _ = measure_recorded(file)
    ids = recorded_ids(file)
    assert [size.id for size in measured] == ids and isinstance(recorded_models(file), list)
    try:
        pool = read_recorded_pool(file, ids[:1])
    except Invalid:
        read_recorded_table(file, ids[:1])
    else:
        assert all(rows.max(initial=0) < len(pool.inputs) for rows in pool.rows)


def _checkpoint(data: bytes) -> None:
    manifest, _, weights = data.partition(BETWEEN)
    parse_checkpoint(manifest, weights)


def _manifest(data: bytes) -> None:
    parse_manifest(data).model_dump_json()


def _message(data: bytes) -> None:
    """Fields and values in turn, as Redis hands them on, whoever wrote them."""
    words = data.split(UNIT)
    fields = dict(zip(words[::2], words[1::2], strict=False))
    version_of(fields)
    assert sent_ms(b"1795391616216-0", fields) >= 0
    for kind, name in ((Doorbell, b"bell"), (PredictCall, b"call"), (Reply, b"reply")):
        found: Model | None = read_message(kind, fields, name)
        assert found is None or found.model_dump_json()


def _with_digest(data: bytes) -> bytes:
    """A checkpoint whose manifest names the weights that are there, so that more than the digest is looked at."""
    text, _, weights = data.partition(BETWEEN)
    try:
        manifest: Any = json.loads(text)
        manifest["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    except (ValueError, TypeError, RecursionError):
        return data
    return json.dumps(manifest).encode("utf-8", "surrogatepass") + BETWEEN + weights
