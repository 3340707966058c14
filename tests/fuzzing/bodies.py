"""Decoders of what comes over HTTP: bodies in each form, uploads, headers; and of what clients are answered."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Any

import numpy as np
from pydantic import BaseModel

from kshot.contracts import api, flywheel_bodies
from kshot.contracts.access_bodies import NewKeyRequest
from kshot.contracts.checkpoints import Manifest, TextInput, VectorInput
from kshot.contracts.dataset_bodies import NewBuiltInRequest, NewDatasetRequest
from kshot.contracts.datasets import DatasetManifest, PartCount
from kshot.contracts.errors import KshotError
from kshot.contracts.job_bodies import NewJobRequest
from kshot.contracts.registry_bodies import MoveAliasRequest, RollbackRequest
from kshot.contracts.tasks import LearnerOptions, Payload
from kshot.inputs import input_shape
from kshot.planning.plan import plan
from service.bodies.requests import Parsed, parse_adapt, parse_examples, parse_feedback, parse_predict, validate
from service.bodies.stream import JSON, MULTIPART, SAFETENSORS, Raw
from service.bodies.strict_json import strict_json, strict_object
from service.meaning import read_query, read_support
from service.settings import Settings
from tests.fuzzing.body_samples import (
    BOMBS,
    adapt_json,
    feedback_json,
    forms,
    other_bodies,
    predict_json,
    predict_tensors,
    tensors,
    uploads,
)
from tests.fuzzing.decoder import Decoder
from tests.fuzzing.exchange import answer, answers, header_samples, headers, upload
from tests.fuzzing.files import SPECS
from tests.fuzzing.words import BODY, BODY_TENSORS, FORM, HEADERS
from tests.service.test_meaning import manifest

LIMITS = Settings(database_url="postgresql://x", redis_url="redis://x", max_support=64, max_query=32, max_ways=16)
_MANIFESTS = {
    "plain": manifest(VectorInput()),
    "words": manifest(TextInput(max_chars=100)),
    "drawings": manifest(SPECS[1]),
    "quads": manifest(VectorInput(width=4), "maml"),
}
_OTHERS: tuple[type[BaseModel], ...] = (
    NewJobRequest,
    NewDatasetRequest,
    NewBuiltInRequest,
    MoveAliasRequest,
    RollbackRequest,
    NewKeyRequest,
    api.ChangeRequest,
    flywheel_bodies.RecordingRequest,
)


def body_decoders() -> list[Decoder]:
    """One for each form of body of the main calls, one for all other bodies, and those of what lies around them."""
    as_form, as_tensors = partial(Raw, MULTIPART, b"B"), partial(Raw, SAFETENSORS, b"")
    parts = (
        b"".join(b'--B\r\nContent-Disposition: form-data; name="query"\r\n\r\n\r\n' for _ in range(2500)) + b"--B--\r\n"
    )
    return [
        Decoder("json", _json, (*adapt_json(), b'"x"', b"[1.5, -2, null]"), BODY, None, BOMBS),
        Decoder("adapt_json", _call(parse_adapt, partial(Raw, JSON, b"")), adapt_json(), BODY, None, BOMBS),
        Decoder("predict_json", _call(parse_predict, partial(Raw, JSON, b"")), predict_json(), BODY, None, BOMBS),
        Decoder("feedback_json", _call(parse_feedback, partial(Raw, JSON, b"")), feedback_json(), BODY, None, BOMBS),
        Decoder("adapt_form", _call(parse_adapt, as_form), forms(), (*FORM, *BODY), None, (parts,)),
        Decoder(
            "examples_form",
            _call(parse_examples, as_form, "words"),
            (forms()[0].replace(b'"checkpoint": "words"', b'"ttl_seconds": 60'),),
            FORM,
            None,
            (parts,),
        ),
        Decoder("adapt_tensors", _call(parse_adapt, as_tensors), tensors(), (*BODY_TENSORS, *BODY), with_header_length),
        Decoder(
            "predict_tensors",
            _call(parse_predict, as_tensors),
            predict_tensors(),
            (*BODY_TENSORS, *BODY),
            with_header_length,
        ),
        Decoder("other_bodies", _other_body, other_bodies(), BODY, None, BOMBS),
        Decoder("upload", upload, uploads(), FORM, None, (parts,)),
        Decoder("headers", headers, header_samples(), HEADERS),
        Decoder("answers", answer, answers(), (b"data: ", b"\n\n", b"\r\n", b":", b"id: ", *HEADERS, *BODY)),
    ]


def _json(data: bytes) -> None:
    json.dumps(strict_json(data)).encode()


def _call(
    parse: Callable[[Raw], Parsed[Any]], as_raw: Callable[[bytes], Raw], usual: str = "plain"
) -> Callable[[bytes], None]:
    def decode(data: bytes) -> None:
        parsed = parse(as_raw(data))
        parsed.settings.model_dump_json()
        for raw in (parsed.query, None if parsed.support is None else parsed.support.inputs):
            if raw is not None:
                raw.update(hashlib.sha256())
        if parse is not parse_feedback:
            wanted = str(getattr(parsed.settings, "checkpoint", None))
            _understand(parsed, _MANIFESTS.get(wanted, _MANIFESTS[usual]))

    return decode


def _understand(parsed: Parsed[Any], named: Manifest) -> None:
    """As preparing a request does: inputs and labels against a checkpoint, and into the form that travels."""
    query, options = None, getattr(parsed.settings, "options", LearnerOptions())
    if parsed.support is None:
        return
    support = read_support(parsed.support, named, options, LIMITS).support
    assert 0 < len(support) <= LIMITS.max_support and len(support.inputs) == len(support.targets)
    if parsed.query is not None:
        query = read_query(parsed.query, named.input, input_shape(support.inputs), LIMITS)
    for inputs in (support.inputs, query):
        assert inputs is None or isinstance(inputs, list) or np.isfinite(inputs).all()
    encoded = Payload(support, query, options).encode()
    assert Payload.decode(encoded).encode() == encoded


def _other_body(data: bytes) -> None:
    """Each of the other bodies by its own model; a job is planned, too."""
    body, fitting = strict_object(data), 0
    for model in _OTHERS:
        with suppress(KshotError):
            found = validate(model, body)
            found.model_dump_json()
            fitting += 1
            if isinstance(found, NewJobRequest):
                plan(found, _dataset(), None).model_dump_json()
    if not fitting:
        validate(NewJobRequest, body)


@cache
def _dataset() -> DatasetManifest:
    names = tuple(f"c{i}" for i in range(10))
    return DatasetManifest(
        id="ds_01J9ZK3V7Q8W5R2M4N6P0T1XYA",
        name="mine",
        format="vector_csv",
        modality="vector",
        file="data.csv",
        width=4,
        splits={"train": names[:6], "valid": names[6:8], "test": names[8:]},
        smallest=9,
        n_examples=90,
        counts={
            "train": PartCount(n_classes=6, n_examples=54),
            "valid": PartCount(n_classes=2, n_examples=18),
            "test": PartCount(n_classes=2, n_examples=18),
        },
        sizes={"train": (9,) * 6, "valid": (9, 9), "test": (9, 9)},
    )


def with_header_length(data: bytes) -> bytes:
    """A safetensors buffer whose first eight bytes tell how long its JSON is, and whose data end where that says."""
    try:
        header, end = json.JSONDecoder().raw_decode(data[8:].decode("latin-1"))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        rest = data[8 + end :][: max([0, *ends])].ljust(min(max([0, *ends]), 100_000), b"\0")
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        return data
    return end.to_bytes(8, "little") + data[8 : 8 + end] + rest
