"""Rows of "Bad input" about files, tensors and meaning, over real HTTP. Each test is named for its row."""

import json
import pickle
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from tests.flow.conftest import HttpStack
from tests.flow.http_stack import assert_problem, b64, drawing_file, vector_task

pytestmark = pytest.mark.flow
UNPICKLED = Path(tempfile.gettempdir()) / "kshot-was-unpickled"
TENSORS = {"Content-Type": "application/vnd.safetensors"}


@pytest.fixture(scope="module")
def client(http_stack: HttpStack) -> httpx.Client:
    return http_stack.tenant("bad-input")


@pytest.fixture(scope="module")
def model(client: httpx.Client) -> str:
    return str(client.post("/adapt", json=vector_task(0)).json()["id"])


def test_an_npz_or_npy_is_415_before_any_expansion(client: httpx.Client) -> None:
    for magic in (b"PK\x03\x04" + b"\0" * 100, b"\x93NUMPY\x01\x00" + b"\0" * 100):
        for media_type in ("application/octet-stream", "application/zip", "application/x-npz"):
            assert_problem(client.post("/adapt", content=magic, headers={"Content-Type": media_type}), 415)
        form = {"request": ("", b'{"checkpoint": "plain"}'), "support[a]": ("x.npz", magic)}
        assert_problem(client.post("/adapt", files=form), 415, "unsupported_media_type")


def _png_bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(bytes(9000 * 1126), 9)
    head = struct.pack(">IIBBBBB", 9000, 9000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _image_request(data: str) -> dict[str, Any]:
    return {"checkpoint": "drawings", "support": {"inputs": [b64(drawing_file(1)), data], "labels": ["a", "b"]}}


@pytest.mark.reliability("bad input: PNG bomb", "bomb")
def test_a_png_bomb_is_422_by_our_own_pixel_cap(client: httpx.Client) -> None:
    bomb = _png_bomb()
    assert len(bomb) < 12_000
    assert_problem(client.post("/adapt", json=_image_request(b64(bomb))), 422, "invalid", "support.inputs[1]")


@pytest.mark.reliability("bad input: PNG bomb", "GIF", "TIFF", "EPS")
@pytest.mark.parametrize("magic", [b"GIF89a", b"II*\x00", b"MM\x00*", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"BM", b"RIFF"])
def test_gif_tiff_and_eps_are_415(client: httpx.Client, magic: bytes) -> None:
    answer = client.post("/adapt", json=_image_request(b64(magic + b"\0" * 60)))
    assert_problem(answer, 415, "unsupported_media_type", "support.inputs[1]")


@pytest.mark.reliability("bad input: PNG bomb", "truncated")
def test_a_truncated_image_is_422(client: httpx.Client) -> None:
    data = drawing_file(2)
    for keep in (20, len(data) // 2):
        answer = client.post("/adapt", json=_image_request(b64(data[:keep])))
        assert_problem(answer, 422, "invalid", "support.inputs[1]")


class _Explosive:
    def __reduce__(self) -> Any:
        return (open, (str(UNPICKLED), "w"))


@pytest.mark.reliability("bad input: pickle or `.pt` upload", "adapt")
def test_a_pickle_or_pt_upload_is_415_and_nothing_is_executed(client: httpx.Client) -> None:
    data = pickle.dumps(_Explosive())
    for media_type in ("application/octet-stream", "application/x-pickle", "application/python-pickle", ""):
        assert_problem(client.post("/adapt", content=data, headers={"Content-Type": media_type}), 415)
    for checkpoint in ("plain", "words", "drawings"):
        form = {"request": ("", json.dumps({"checkpoint": checkpoint}).encode()), "support[a]": ("model.pt", data)}
        assert_problem(client.post("/adapt", files=form), 415)
    assert_problem(client.post("/adapt", json=_image_request(b64(data))), 415)
    assert_problem(client.post("/adapt", content=data, headers=TENSORS), 422)
    assert not UNPICKLED.exists()


@pytest.mark.reliability("bad input: safetensors", "bodies")
def test_safetensors_truncated_trailing_huge_overlapping_or_nan_are_422(client: httpx.Client) -> None:
    def body(inputs: Any, targets: Any) -> bytes:
        header = json.dumps({"checkpoint": "plain"})
        return save({"support.inputs": inputs, "support.targets": targets}, metadata={"header": header})

    x, y = np.ones((2, 3), np.float32), np.array([0, 1])
    sound = body(x, y)
    length = int.from_bytes(sound[:8], "little")
    overlapping = json.loads(sound[8 : 8 + length])
    overlapping["support.inputs"]["data_offsets"] = overlapping["support.targets"]["data_offsets"]
    text = json.dumps(overlapping).encode()

    def empty(*shape: int) -> bytes:
        lying = json.dumps({"support.inputs": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
        return len(lying).to_bytes(8, "little") + lying

    for bad in (
        empty(0, 2**62),
        empty(0, 2**63 + 1),
        empty(*[1] * 70, 0),
        sound[:-1],
        sound[:100],
        sound + b"trailing",
        b"\xff" * 8 + sound[8:],
        (100 * 2**20).to_bytes(8, "little") + sound[8:],
        len(text).to_bytes(8, "little") + text + sound[8 + length :],
        body(np.full((2, 3), np.nan, np.float32), y),
        body(np.full((2, 3), np.inf, np.float32), y),
        body(x, np.array([np.nan, 1.0])),
        body(x.astype(np.complex64).view(np.float32).astype(bool), y),
        body(x.reshape(2, 3, 1), y),
        body(x, y.reshape(1, 2, 1)),
        body(x, np.array([0, 1, 1])),
        save({"weights": x}, metadata={"header": '{"checkpoint": "plain"}'}),
    ):
        assert_problem(client.post("/adapt", content=bad, headers=TENSORS), 422, "invalid")


@pytest.mark.reliability("bad input: any URL as input", "pictures")
@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "https://example.com/cat.png", "file:///etc/passwd", "ftp://x/y", "//x/y"]
)
def test_any_url_as_input_is_422_and_nothing_is_fetched(client: httpx.Client, url: str) -> None:
    answer = client.post("/adapt", json=_image_request(url))
    assert_problem(answer, 422, "invalid", "support.inputs[1]")
    assert "fetched" in answer.json()["detail"]


def _support(inputs: list[Any], labels: list[Any], **more: Any) -> dict[str, Any]:
    return {"checkpoint": "plain", "support": {"inputs": inputs, "labels": labels}, **more}


@pytest.mark.reliability(
    "bad input: support with one class",
    "one class",
    "unequal length",
    "0 rows",
    "over the limits",
    "vector width",
    "text to images",
)
@pytest.mark.parametrize(
    ("body", "param", "expected"),
    [
        (_support([[0], [1]], ["a", "a"]), "support.labels", "2 classes"),
        (_support([[0], [1]], ["a"]), "support.labels", "2 inputs but 1 labels"),
        (_support([], []), "support.inputs", "a list of numbers"),
        (_support([[0]] * 2001, ["a"] * 2001), "support.inputs", "at most 2000"),
        (_support([[i] for i in range(201)], list(range(201))), "support.labels", "at most 200"),
        (_support([[0], [1]], ["a", "b"], query={"inputs": [[0]] * 5001}), "query.inputs", "at most 5000"),
        (_support([[0], [1, 2]], ["a", "b"]), "support.inputs[1]", "a list of 1 numbers"),
        (_support([[0], [1]], ["a", "b"], query={"inputs": [[0, 1]]}), "query.inputs[0]", "expected 1 number"),
        (_support([[0], [1]], ["a", "b"], query={"inputs": []}), "query.inputs", "a list of numbers"),
        ({**_support([[0, 1], [1, 1]], [0, 1]), "checkpoint": "lines"}, "support.inputs[0]", "a list of 1 numbers"),
        ({**_support(["cat", "dog"], ["a", "b"]), "checkpoint": "drawings"}, "support.inputs[0]", "PNG or JPEG"),
        (_support(["cat", "dog"], ["a", "b"]), "support.inputs[0]", "a list of numbers"),
        ({**_support([[0], [1]], ["a", "b"]), "checkpoint": "words"}, "support.inputs[0]", "string"),
        ({**_support(["x" * 201, "b"], ["a", "b"]), "checkpoint": "words"}, "support.inputs[0]", "at most 200"),
        (_support([[0], [1]], ["a", "b"], options={"inner_steps": 1}), "options.inner_steps", "ridge"),
        (_support([[0], [1]], ["a", "b"], options={"learner": "maml"}), "options.learner", "ridge, protonet"),
        (
            {**_support([[0], [1]], ["a", "b"]), "checkpoint": "lines"},
            "support.labels[0]",
            "lines only predicts numbers",
        ),
    ],
)
def test_supports_that_make_no_sense_are_422_naming_parameter_and_expected_shape(
    client: httpx.Client, body: dict[str, Any], param: str, expected: str
) -> None:
    answer = client.post("/adapt", json=body)
    assert_problem(answer, 422, "invalid", param)
    assert expected in answer.json()["detail"]


@pytest.mark.reliability("bad input: support with one class", "image size")
def test_tensors_of_the_wrong_image_size_are_422_naming_the_expected_shape(client: httpx.Client) -> None:
    header = json.dumps({"checkpoint": "drawings"})
    arrays = {"support.inputs": np.zeros((2, 32, 32, 1), np.uint8), "support.targets": np.array([0, 1])}
    answer = client.post("/adapt", content=save(arrays, metadata={"header": header}), headers=TENSORS)
    assert_problem(answer, 422, "invalid", "support.inputs")
    assert "(n, 28, 28, 1)" in answer.json()["detail"]


@pytest.mark.reliability("bad input: support with one class", "vector width")
def test_a_predict_input_of_another_width_is_422(client: httpx.Client, model: str) -> None:
    answer = client.post("/predict", json={"model": model, "inputs": [[1, 2]]})
    assert_problem(answer, 422, "invalid", "inputs[0]")
    assert "4 numbers" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [[1]]},
        {"checkpoint": "plain", "inputs": [[1]]},
        {"support": {"inputs": [], "labels": []}, "inputs": []},
    ],
)
def test_a_predict_call_without_model_or_support_is_422(client: httpx.Client, body: dict[str, Any]) -> None:
    assert_problem(client.post("/predict", json=body), 422, "invalid")


def test_unknown_names_are_404(client: httpx.Client) -> None:
    for name in ("nothing", "plain@nothing", "ckpt_01J9ZK3V7Q8W5R2M4N6P0T1XYA", "PLAIN"):
        assert_problem(client.post("/adapt", json=vector_task(0, checkpoint=name)), 404, "not_found", "checkpoint")
