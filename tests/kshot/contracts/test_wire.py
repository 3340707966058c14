"""Payloads survive the wire; buffers that lie are refused."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.contracts.errors import Invalid, KshotError, NotFound, error_class, rebuild
from kshot.contracts.ids import is_id, new_id
from kshot.contracts.selection import Candidate, CheckpointRef
from kshot.contracts.tasks import AnswerOptions, Form, LearnerOptions, Payload, SupportSet, TargetSpec
from kshot.contracts.wire import pack, unpack


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5),
    labels=st.lists(st.one_of(st.integers(-5, 5), st.text(st.characters(exclude_categories=["Cs"]))), min_size=1),
)
def test_a_payload_of_texts_comes_back_equal(texts: list[str], labels: list[str | int]):
    targets = np.zeros(len(texts), dtype=np.int64)
    sent = Payload(
        support=SupportSet("classification", texts, targets, tuple(labels)),
        query=texts[:1],
        options=LearnerOptions(l2=0.5, seed=3),
        answer=AnswerOptions(wanted=("logits",), top_k=2, reject_below=0.4),
    )
    back = Payload.decode(sent.encode())
    assert back.support is not None
    assert (back.support.inputs, back.support.classes, back.support.task) == (texts, tuple(labels), "classification")
    assert (back.query, back.options, back.answer) == (texts[:1], sent.options, sent.answer)


def test_a_payload_of_several_targets_comes_back_equal():
    columns = (TargetSpec(name="é", kind="classification", classes=(7, -1)), TargetSpec(name="v", kind="regression"))
    targets = np.array([[0, np.nan], [1, 2.5]], np.float32)
    options = LearnerOptions(targets={"v": "regression"})
    sent = Payload(SupportSet("multitask", ["a", "b"], targets, columns=columns), options=options)
    back = Payload.decode(sent.encode())
    assert back.support is not None and (back.support.columns, back.options) == (columns, options)
    np.testing.assert_array_equal(back.support.targets, targets)


@pytest.mark.parametrize("texts", [True, False])
def test_candidates_come_back_each_with_its_form(texts: bool):
    def block(n: int) -> "np.ndarray | list[str]":
        return [f"text {n}"] * n if texts else np.full((n, 2), n, np.float32)

    candidates = tuple(
        Candidate(checkpoint=CheckpointRef(id=f"ckpt_{form}", name="x", alias="production"), learner="ridge", form=form)
        for form in (0, 1, 2)
    )
    support = SupportSet("classification", block(2), np.array([0, 1]), ("a", "b"))
    others = (Form(block(3), block(4)), Form(block(5), None))
    back = Payload.decode(Payload(support, block(1), candidates=candidates, others=others).encode())
    assert back.candidates == candidates
    for candidate, n, asked in zip(candidates, (2, 3, 5), (1, 4, None), strict=True):
        own = back.of(candidate)
        assert own.support is not None and own.support.classes == ("a", "b") and own.candidates == own.others == ()
        np.testing.assert_array_equal(own.support.inputs, block(n))
        assert (own.query is None) == (asked is None)
        if asked is not None:
            np.testing.assert_array_equal(own.query, block(asked))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_arrays_come_back_equal(dtype: str):
    array = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    header, arrays = unpack(pack({"a": [1, "é"]}, {"x": array, "turned": array.T}))
    assert header == {"a": [1, "é"]}
    np.testing.assert_array_equal(arrays["x"], array)
    np.testing.assert_array_equal(arrays["turned"], array.T)
    assert arrays["x"].dtype == array.dtype


def lying(header: dict, body: bytes = b"\0" * 8) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


GOOD = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    "buffer",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 50_000_000) + b"{}",
        lying(GOOD)[:-1],
        lying(GOOD) + b"tail",
        lying({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}),
        lying({"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}),
        lying({"x": {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}}, b"\0" * 4),
        lying({"x": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}}, b""),
        lying({"x": {"dtype": "F32", "shape": [0, 2**63 + 1], "data_offsets": [0, 0]}}, b""),
        lying({"__metadata__": [1]} | GOOD),
        lying(GOOD | {"y": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}),
        lying({"x": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}),
        lying({"x": {"dtype": "OBJECT", "shape": [1], "data_offsets": [0, 8]}}),
        lying({"__metadata__": {"header": "{not json"}} | GOOD),
        lying({"__metadata__": {"header": "[1]"}} | GOOD),
        b"\x80\x04\x95 a pickle",
    ],
)
def test_lying_buffers_are_refused(buffer: bytes):
    with pytest.raises(Invalid):
        unpack(buffer)


def test_metadata_null_is_no_metadata():
    header, arrays = unpack(lying({"__metadata__": None} | GOOD))
    assert header == {} and arrays["x"].tolist() == [0, 0]


@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_crashes(noise: bytes):
    try:
        unpack(noise)
    except Invalid:
        pass


def test_ids_are_recognised_by_kind():
    assert is_id(new_id("am"), "am")
    assert not is_id(new_id("am"), "ckpt")
    for trick in ("am_../../etc/passwd", "am_", "", "am_" + "I" * 26, new_id("am") + "\n", new_id("am").lower()):
        assert not is_id(trick, "am"), trick


def test_every_error_code_finds_its_class():
    classes = KshotError.__subclasses__()
    assert len({cls.code for cls in classes}) == len(classes)
    assert all(error_class(cls.code) is cls for cls in classes)
    assert isinstance(rebuild("not_found", "x", "model"), NotFound)
    assert type(rebuild("from_the_future", "x")) is KshotError
