"""JSON that Python would read and we refuse."""

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kshot.contracts.errors import Invalid, UnreadableBody
from service.bodies.strict_json import _slow_json, strict_json, strict_object

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


def written(value: object) -> str:
    """JSON in which objects are lists of pairs, so that a key may be there twice."""
    if isinstance(value, tuple):
        return "{" + ",".join(f"{json.dumps(key)}:{written(item)}" for key, item in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


few = st.sampled_from(["a", "b", ":", "a:b", "\\", '"', "\0", "\ud800", "é"])
odd_numbers = st.sampled_from([2**63, -(2**63) - 1, 10**30, 1e300, 0, 1.5, -0.0, True, None])
with_pairs = st.recursive(
    few | odd_numbers,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(few, inner), max_size=4).map(tuple),
    max_leaves=20,
)


def outcome(read: Callable[[], object]) -> object:
    try:
        return read()
    except (Invalid, UnreadableBody) as error:
        return type(error), error.message


def as_coordinates(value: object) -> object:
    """Integers inside a list of lists as floats: there they are the same to every reader of ours."""
    if isinstance(value, dict):
        return {key: as_coordinates(item) for key, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], list):
        return json.loads(json.dumps(value), parse_int=float)
    return [as_coordinates(item) for item in value] if isinstance(value, list) else value


@given(with_pairs)
@example(-(2**63) - 1)  # the float nearest to it is the least 64-bit integer
def test_the_fast_reader_answers_as_the_slow_one(value: object) -> None:
    text = written(value).encode()
    fast, slow = outcome(lambda: strict_json(text)), outcome(lambda: _slow_json(text, "the body"))
    assert json.dumps(as_coordinates(fast), default=str) == json.dumps(as_coordinates(slow), default=str)


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


@pytest.mark.reliability("bad input: JSON 100,000 levels deep", "under 100 ms")
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
