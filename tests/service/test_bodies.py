"""Multipart and safetensors bodies, and requests in all three forms."""

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from kshot.contracts.errors import Invalid, KshotError, UnreadableBody, UnsupportedMediaType
from service.bodies.multipart import MultipartReader, Sink, parse_multipart
from service.bodies.raw_inputs import Files, Tensor, Values
from service.bodies.requests import parse_adapt, parse_examples, parse_predict
from service.bodies.stream import JSON, MULTIPART, SAFETENSORS, Raw
from service.errors import InvalidFields


def form(*parts: tuple[str, bytes, bool]) -> bytes:
    lines = []
    for name, data, is_file in parts:
        filename = '; filename="x"' if is_file else ""
        lines.append(
            f'--B\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode() + data + b"\r\n"
        )
    return b"".join(lines) + b"--B--\r\n"


def multipart(*parts: tuple[str, bytes, bool]) -> Raw:
    return Raw(MULTIPART, b"B", form(*parts))


def tensors(header: object, **arrays: Any) -> Raw:
    named = {name.replace("_", "."): array for name, array in arrays.items()}
    return Raw(SAFETENSORS, b"", save(named, metadata={"header": json.dumps(header)}))


def test_multipart_parts_in_order() -> None:
    parts = parse_multipart(form(("a", b"1\r\n2", False), ("support[é]", b"\x00\xff", True)), b"B")
    assert [(part.name, part.is_file, part.data) for part in parts] == [
        ("a", False, b"1\r\n2"),
        ("support[é]", True, b"\x00\xff"),
    ]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_multipart_in_pieces_is_the_same(size: int) -> None:
    whole = form(("request", b'{"a": 1}', False), ("file", b"\r\n--A\r\n--" + bytes(range(256)), True))
    found: list[tuple[str, str | None, bytearray]] = []

    def open_part(name: str, filename: str | None) -> Sink:
        found.append((name, filename, bytearray()))
        return found[-1][2].extend

    reader = MultipartReader(b"B", open_part)
    for start in range(0, len(whole), size):
        reader.feed(whole[start : start + size])
    reader.close()
    assert [(part.name, part.data) for part in parse_multipart(whole, b"B")] == [
        (name, data) for name, _, data in found
    ]
    assert [filename for _, filename, _ in found] == [None, "x"]


@pytest.mark.parametrize(
    ("data", "boundary"),
    [
        (form(("a", b"1", False))[:-6], b"B"),
        (form(("a", b"1", False))[:30], b"B"),
        (b"", b"B"),
        (b"hello", b"B"),
        (form(("a", b"1", False)), b""),
        (form(("a", b"1", False)), b"C"),
        (form(("", b"1", False)), b"B"),
        (b"--B\r\nX: y\r\n\r\n1\r\n--B--\r\n", b"B"),
        (form(("a", b"1", False)), b"B" * 300),
    ],
)
def test_malformed_multipart(data: bytes, boundary: bytes) -> None:
    with pytest.raises(UnreadableBody):
        parse_multipart(data, boundary)


def test_multipart_with_too_many_parts() -> None:
    with pytest.raises(Invalid, match="parts"):
        parse_multipart(form(*[("query", b"", True)] * 10_001), b"B")


def test_an_adapt_request_as_a_form() -> None:
    parsed = parse_adapt(
        multipart(
            ("request", b'{"checkpoint": "c"}', False),
            ("support[x]", b"1", True),
            ("support[y]", b"2", True),
            ("query", b"3", True),
        )
    )
    assert parsed.settings.checkpoint == "c"
    assert parsed.support is not None and parsed.support.labels == ["x", "y"] and parsed.support.named
    assert parsed.support.inputs == Files([b"1", b"2"]) and parsed.query == Files([b"3"])


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ("other", Invalid),
        ("support", Invalid),
        ("support[x", Invalid),
        ("checkpoint", Invalid),
    ],
)
def test_odd_part_names(part: str, error: type[KshotError]) -> None:
    with pytest.raises(error):
        parse_adapt(multipart(("request", b'{"checkpoint": "c"}', False), (part, b"1", True)))


def test_the_request_part_is_strict_json_too() -> None:
    for request, error in ((b'{"checkpoint": "c", "checkpoint": "d"}', Invalid), (b"{", UnreadableBody)):
        with pytest.raises(error) as caught:
            parse_adapt(multipart(("request", request, False), ("support[x]", b"1", True)))
        assert caught.value.param == "request"
    with pytest.raises(InvalidFields):
        parse_adapt(multipart(("request", b'{"checkpoint": "c", "x": 1}', False), ("support[x]", b"1", True)))


@pytest.mark.parametrize("magic", [b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", b"\x93NUMPY"])
def test_pickles_and_archives_are_unsupported(magic: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        parse_adapt(multipart(("support[x]", magic + b"rest", True)))


def test_an_adapt_request_as_tensors() -> None:
    inputs, targets = np.ones((2, 3), np.float32), np.array([4, 7])
    raw = tensors({"checkpoint": "c"}, support_inputs=inputs, support_targets=targets, query_inputs=inputs)
    parsed = parse_adapt(raw)
    assert parsed.support is not None and parsed.support.labels == [4, 7] and isinstance(parsed.support.inputs, Tensor)
    assert isinstance(parsed.query, Tensor) and len(parsed.query) == 2


def test_texts_and_string_labels_lie_in_the_header() -> None:
    header = {"checkpoint": "c", "support.inputs": ["a"], "support.labels": ["x"], "query.inputs": ["b"]}
    parsed = parse_adapt(tensors(header))
    assert parsed.support is not None and parsed.support.labels == ["x"] and parsed.query == Values(["b"])


ONES = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("header", "arrays"),
    [
        ({"checkpoint": "c", "extra": 1}, {}),
        ({"checkpoint": "c"}, {"support_inputs": ONES}),
        ({"checkpoint": "c"}, {"support_targets": np.array([1])}),
        ({"checkpoint": "c"}, {"support_inputs": ONES, "support_targets": np.ones((2, 1, 1), np.float32)}),
        ({"checkpoint": "c"}, {"support_inputs": ONES, "support_targets": np.array([True, False])}),
        ({"checkpoint": "c"}, {"support_inputs": np.float32(1), "support_targets": np.array([1])}),
        ({"checkpoint": "c"}, {"weights": ONES}),
        ({"checkpoint": "c", "support.inputs": "a", "support.labels": ["x"]}, {}),
        ({"checkpoint": "c", "support.inputs": ["a"], "support.labels": "x"}, {}),
        ([], {}),
    ],
)
def test_tensor_bodies_that_are_refused(header: object, arrays: dict[str, Any]) -> None:
    with pytest.raises((Invalid, InvalidFields)):
        parse_adapt(tensors(header, **{name: np.asarray(array) for name, array in arrays.items()}))


def test_safetensors_that_are_damaged() -> None:
    sound = tensors({"checkpoint": "c"}, support_inputs=ONES, support_targets=np.array([1, 2])).data
    length = int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8 : 8 + length])

    def with_header(changed: object) -> bytes:
        text = json.dumps(changed).encode()
        return len(text).to_bytes(8, "little") + text + sound[8 + length :]

    overlap = {**header, "support.inputs": {**header["support.inputs"], "data_offsets": [0, 16]}}
    lying = {**header, "support.inputs": {**header["support.inputs"], "shape": [1 << 40, 1 << 40]}}
    dtype = {**header, "support.inputs": {**header["support.inputs"], "dtype": "BF16"}}
    for data in (
        b"",
        sound[:4],
        sound[:-1],
        sound + b"x",
        b"\xff" * 8 + sound[8:],
        (1 << 40).to_bytes(8, "little") + sound[8:],
        with_header(overlap),
        with_header(lying),
        with_header(dtype),
        with_header([1]),
        b"\x80\x04\x95pickle",
    ):
        with pytest.raises(Invalid):
            parse_adapt(Raw(SAFETENSORS, b"", data))


def test_the_metadata_header_is_strict_json_too() -> None:
    for header, error in (('{"checkpoint": NaN}', Invalid), ('{"a": 1, "a": 2}', Invalid), ("{", UnreadableBody)):
        raw = Raw(SAFETENSORS, b"", save({"support.inputs": ONES}, metadata={"header": header}))
        with pytest.raises(error):
            parse_adapt(raw)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "checkpoint"),
        ({"checkpoint": 5}, "checkpoint"),
        ({"ttl_seconds": "1"}, "ttl_seconds"),
        ({"ttl_seconds": True}, "ttl_seconds"),
        ({"ttl_seconds": 1.5}, "ttl_seconds"),
        ({"ttl_seconds": 0}, "ttl_seconds"),
        ({"options": {"inner_steps": True}}, "options.inner_steps"),
        ({"options": {"inner_lr": "0.1"}}, "options.inner_lr"),
        ({"options": {"inner_lr": 1e400}}, "options.inner_lr"),
        ({"options": {"momentum": 1}}, "options.momentum"),
        ({"support": {"inputs": []}}, "support.labels"),
        ({"support": {"inputs": {}, "labels": []}}, "support.inputs"),
        ({"unknown": 1}, "unknown"),
        ({"metadata": {"a": [1]}}, "metadata.a"),
        ({"metadata": {"a": "x" * 1001}}, "metadata.a"),
        ({"query": []}, "query"),
    ],
)
def test_fields_that_are_off_are_named(body: dict[str, Any], param: str) -> None:
    whole = {"checkpoint": "c", "support": {"inputs": [], "labels": []}, **body} if body else {}
    text = json.dumps(whole).replace("Infinity", "1e400")
    with pytest.raises(InvalidFields) as caught:
        parse_adapt(Raw(JSON, b"", text.encode()))
    assert any(item.param.startswith(param) for item in caught.value.items), caught.value.items


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"query": ["my card"]}, "query", 'expected an object such as {"inputs": [...]}'),
        ({"support": 1}, "support", 'expected an object such as {"inputs": [...], "labels": [...]}'),
        ({"options": []}, "options", "expected an object"),
        ({"metadata": {"a": [1]}}, "metadata.a", "a finite number, true, false or null"),
        ({"metadata": {"k" * 65: 1}}, "metadata." + "k" * 65, "a name has at most 64 characters"),
        ({"l2": 1}, "l2", "unknown field; did you mean options.l2?"),
        ({"l3": 1}, "l3", "unknown field"),
    ],
)
def test_faults_are_told_in_words_of_the_caller(body: dict[str, Any], param: str, message: str) -> None:
    whole = {"checkpoint": "c", "support": {"inputs": [], "labels": []}, **body}
    with pytest.raises(InvalidFields) as caught:
        parse_adapt(Raw(JSON, b"", json.dumps(whole).encode()))
    (item,) = caught.value.items
    assert item.param == param and item.message.endswith(message)


def test_no_options_are_proposed_where_there_are_none() -> None:
    body = b'{"support": {"inputs": ["a"], "labels": ["x"]}, "l2": 1}'
    with pytest.raises(InvalidFields) as caught:
        parse_examples(Raw(JSON, b"", body))
    assert caught.value.items[0].message == "unknown field"


def test_a_body_full_of_faults_names_a_few_of_them() -> None:
    body = {"checkpoint": "c", "support": {"inputs": [], "labels": []}, **{"k" * 300 + str(i): 1 for i in range(900)}}
    with pytest.raises(InvalidFields) as caught:
        parse_adapt(Raw(JSON, b"", json.dumps(body).encode()))
    assert len(caught.value.items) == 20 and all(len(item.param) == 200 for item in caught.value.items)


def test_examples_and_predict_requests() -> None:
    body = b'{"support": {"inputs": ["a"], "labels": ["x"]}}'
    assert parse_examples(Raw(JSON, b"", body)).support is not None
    predict = parse_predict(Raw(JSON, b"", b'{"model": "am_x", "inputs": ["a"], "return": ["labels"]}'))
    assert predict.settings.wanted == ["labels"] and predict.query == Values(["a"]) and predict.support is None
    for wrong in (
        b'{"model": "m"}',
        b'{"inputs": [], "return": []}',
        b'{"inputs": [], "return": ["all"]}',
        b'{"inputs": [], "reject_below": 2}',
        b'{"inputs": [], "top_k": 0}',
        b'{"inputs": [], "store": 1}',
    ):
        with pytest.raises(InvalidFields):
            parse_predict(Raw(JSON, b"", wrong))
