"""What callers have, and what a request carries of it."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from PIL import Image

from kshot.client import Invalid
from kshot.client.inputs import as_inputs, as_labels, body_of
from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.wire import split
from kshot.inputs import decode_image

NUMBERS = np.arange(12.0).reshape(4, 3)
GREY = (np.arange(64).reshape(8, 8) * 4).astype(np.uint8)
AS_IS = ImageInput(height=8, width=8, channels=1)


@pytest.mark.parametrize(
    "given",
    [
        NUMBERS,
        NUMBERS.astype(np.float32),
        NUMBERS.astype(np.int16),
        NUMBERS.astype(">f8"),
        np.asfortranarray(NUMBERS),
        NUMBERS.tolist(),
        [tuple(row) for row in NUMBERS],
        list(NUMBERS),
        pd.DataFrame(NUMBERS, columns=["a", "b", "c"]),
    ],
)
def test_vectors_become_float32(given: Any):
    found = as_inputs(given, "inputs")
    assert isinstance(found, np.ndarray) and found.dtype == np.dtype("<f4") and found.flags.c_contiguous
    assert (found == NUMBERS).all()


@pytest.mark.parametrize("given", [["a", "b"], ("a", "b"), np.array(["a", "b"]), pd.Series(["a", "b"]), iter("ab")])
def test_texts_stay_texts(given: Any):
    assert as_inputs(given, "inputs") == ["a", "b"]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def pictures(folder: Path) -> dict[str, Any]:
    image = Image.fromarray(GREY)
    file = folder / "grey.png"
    file.write_bytes(png(image))
    return {
        "Pillow": [image],
        "Path": [file],
        "bytes": [png(image)],
        "array": [GREY],
        "array with a channel": [GREY[..., None]],
        "array of arrays": GREY[None],
        "array of arrays with a channel": GREY[None, ..., None],
        "base64": [base64.b64encode(png(image)).decode()],
        "colour": [np.stack([GREY] * 3, axis=-1)],
        "transparency": [np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])],
        "float mode": [image.convert("F")],
    }


def test_a_picture_keeps_its_pixels_in_every_form(tmp_path: Path):
    for form, given in pictures(tmp_path).items():
        (found,) = as_inputs(given, "inputs")
        assert (decode_image(base64.b64decode(found), AS_IS)[..., 0] == GREY).all(), form


@pytest.mark.parametrize(
    ("given", "param", "words"),
    [
        ("one text", "inputs", "brackets"),
        (b"one file", "inputs", "brackets"),
        (Image.fromarray(GREY), "inputs", "brackets"),
        (np.arange(3.0), "inputs", "array[None]"),
        (np.zeros((2, 2), dtype=complex), "inputs", "complex"),
        ([GREY.astype(float)], "inputs[0]", "uint8"),
        ([GREY, GREY[None, None]], "inputs[1]", "uint8"),
        ([Path("/nowhere/x.png")], "inputs[0]", "cannot be read"),
    ],
)
def test_what_does_not_fit_is_named(given: Any, param: str, words: str):
    with pytest.raises(Invalid, match=words.replace("[", r"\[")) as raised:
        as_inputs(given, "inputs")
    assert raised.value.param == param


def test_lists_that_are_no_rectangle_go_to_the_service_which_names_the_row():
    assert as_inputs([[1, 2], [3]], "inputs") == [[1, 2], [3]]
    assert as_inputs([[1, "2"]], "inputs") == [[1, "2"]]
    assert as_inputs([], "inputs") == []


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["a", "b"], ["a", "b"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([1, 2]), [1, 2]),
        ([np.int64(1), np.str_("b")], [1, "b"]),
        (np.array([1.0, 2.5]), [1.0, 2.5]),
        (np.array([[1.0, 2.0]]), [[1.0, 2.0]]),
        ([(1.0, 2.0)], [[1.0, 2.0]]),
        (pd.Series(["x", "y"]), ["x", "y"]),
        ([{"team": "a", "urgency": np.float64(0.5)}, {"team": None}], [{"team": "a", "urgency": 0.5}, {"team": None}]),
    ],
)
def test_labels_are_what_json_has(given: Any, found: list[Any]):
    assert as_labels(given) == found
    assert [type(one) for one in as_labels(given)] == [type(one) for one in found]


def test_vectors_go_as_tensors_with_the_rest_in_the_header():
    body = body_of({"checkpoint": "vectors"}, support=(NUMBERS, [1, 2, 1, 2]), query=NUMBERS[:1])
    header, arrays = split(body.data)
    assert body.media_type == "application/vnd.safetensors"
    assert orjson.loads(header) == {"checkpoint": "vectors", "support.labels": [1, 2, 1, 2]}
    assert {name: array.shape for name, array in arrays.items()} == {"support.inputs": (4, 3), "query.inputs": (1, 3)}


def test_texts_go_as_json():
    adapt = body_of({"checkpoint": "intents"}, support=(["a"], ["x"]), query=["b"])
    assert adapt.media_type == "application/json"
    assert orjson.loads(adapt.data) == {
        "checkpoint": "intents", "support": {"inputs": ["a"], "labels": ["x"]}, "query": {"inputs": ["b"]},
    }  # fmt: skip
    predict = body_of({"model": "am_1"}, query=["b"], query_as="inputs")
    assert orjson.loads(predict.data) == {"model": "am_1", "inputs": ["b"]}


@pytest.mark.parametrize("bad", ["\ud800", 2**70])
def test_what_json_cannot_say_is_refused_here(bad: Any):
    with pytest.raises(Invalid, match="cannot be written as JSON"):
        body_of({}, support=(["a"], [bad]))
