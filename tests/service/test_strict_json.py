"""JSON that Python would read and we refuse."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.contracts.errors import Invalid, UnreadableBody
from service.bodies.strict_json import strict_json, strict_object

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)


@given(json_values)
def test_sound_json_survives(value: object) -> None:
    assert strict_json(json.dumps(value).encode()) == value
    assert strict_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize("body", [b'{"a": NaN}', b"[Infinity]", b"-Infinity"])
def test_nan_and_infinity(body: bytes) -> None:
    with pytest.raises(Invalid, match="the JSON holds"):
        strict_json(body)


@pytest.mark.parametrize("body", [b'{"a": 1, "a": 2}', b'{"x": {"a": 1, "\\u0061": 2}}'])
def test_duplicate_keys(body: bytes) -> None:
    with pytest.raises(Invalid, match="twice"):
        strict_json(body)


@pytest.mark.parametrize(
    "body", [rb'"a\u0000b"', rb'["\ud800"]', rb'{"\udfff": 1}', rb'{"a": {"b": ["\ud83d x"]}}', rb'"\uDC00\uD83D"']
)
def test_nul_and_lone_surrogates(body: bytes) -> None:
    with pytest.raises(Invalid, match="surrogates"):
        strict_json(body)


def test_escapes_that_only_look_like_it() -> None:
    assert strict_json(rb'["\\u0000", "\ud83d\ude00"]') == ["\\u0000", "\U0001f600"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1,]", b"{'a': 1}", b"\xff", b"\xed\xa0\x80", b'"a\nb"', b'"\x00"', b"nul", b"1 2", b"\xef\xbb\xbf1"],
)
def test_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableBody):
        strict_json(body)


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b'{"a": [-' + b"9" * 5000],
)
def test_deep_or_endless_is_refused_fast(body: bytes) -> None:
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        with pytest.raises(UnreadableBody):
            strict_json(body)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.1  # the specification's own bound; a busy machine may slow one run


def test_messages_do_not_quote_the_body() -> None:
    for body in (b'{"secret-value": 1, "secret-value": 2}', b'["secret-value", x]', b'"secret-value\\u0000"'):
        with pytest.raises((Invalid, UnreadableBody)) as caught:
            strict_json(body)
        assert "secret" not in caught.value.message


def test_objects_of_thousands_of_keys() -> None:
    assert len(strict_json(json.dumps({str(i): i for i in range(1000)}).encode())) == 1000
    with pytest.raises(Invalid, match="keys"):
        strict_json(json.dumps([{str(i): i for i in range(1001)}]).encode())


def test_an_object_is_expected() -> None:
    with pytest.raises(Invalid):
        strict_object(b"[]")
