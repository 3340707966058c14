"""Valid bodies of every request in every form; and bombs."""

import json
from typing import Any

import numpy as np
from safetensors.numpy import save

from tests.fuzzing.file_samples import drawing_and_photo
from tests.kshot.test_inputs import b64
from tests.service.test_bodies import form

_DEEP = b"[" * 150_000


BOMBS = (
    b'{"support":' + _DEEP,
    b'{"a":' * 30_000,
    b'{"top_k":' + b"9" * 150_000 + b"}",
    b"{" + b",".join(b'"%d":1' % i for i in range(15_000)) + b"}",
    b'{"inputs":["' + b"\\ud800" * 20_000 + b'"]}',
)


def adapt_json() -> tuple[bytes, ...]:
    photos = [b64(file) for file in drawing_and_photo()]
    bodies: list[dict[str, Any]] = [
        {
            "checkpoint": "plain",
            "support": {"inputs": [[1, 2.5], [0, -1], [3, 1]], "labels": ["a", "b", "a"]},
            "query": {"inputs": [[0, 0]]},
        },
        {
            "checkpoint": "words",
            "support": {"inputs": ["hello", "grün"], "labels": [0, 1]},
            "ttl_seconds": 60,
            "metadata": {"a": 1, "b": None},
        },
        {
            "checkpoint": "drawings",
            "support": {"inputs": photos, "labels": ["x", "y"]},
            "options": {"learner": "ridge", "l2": 0.5},
        },
        {
            "checkpoint": "plain",
            "support": {"inputs": [[1.0], [2.0], [3.0]], "labels": [0.5, 1.5, 2]},
            "options": {"seed": 7},
        },
        {
            "checkpoint": "plain",
            "support": {
                "inputs": [[1.0], [2.0], [3.0]],
                "labels": [{"y": 1.5, "k": "a"}, {"y": None, "k": "b"}, {"y": 2}],
            },
            "options": {"targets": {"y": "regression"}},
        },
        {
            "checkpoint": "quads",
            "support": {"inputs": [[1, 2, 3, 4], [4, 3, 2, 1]], "labels": [[0.5, 1], [2, 3]]},
            "options": {"inner_steps": 3},
        },
    ]
    return tuple(json.dumps(body).encode() for body in bodies)


def predict_json() -> tuple[bytes, ...]:
    named = {
        "model": "am_01J9ZK3V7Q8W5R2M4N6P0T1XYA",
        "inputs": [[1, 2], [3, 4.5]],
        "return": ["labels", "logits"],
        "top_k": 2,
    }
    brought = {**json.loads(adapt_json()[0]), "inputs": [[1, 1]], "reject_below": 0.5}
    return json.dumps(named).encode(), json.dumps({name: brought[name] for name in brought if name != "query"}).encode()


def feedback_json() -> tuple[bytes, ...]:
    told = {"inputs": [[1, 2], [3, 4]], "labels": ["a", "b"]}
    return json.dumps(told).encode(), b'{"prediction": "pred_01J9ZK3V7Q8W5R2M4N6P0T1XYA", "labels": ["a"]}'


def forms() -> tuple[bytes, ...]:
    drawing, photo = drawing_and_photo()
    texts = form(
        ("request", b'{"checkpoint": "words"}', False),
        ("support[a]", b"hello", False),
        ("support[b]", b"bye", True),
        ("query", b"hi", False),
    )
    pictures = form(
        ("support[x]", drawing, True), ("support[y]", photo, True), ("request", b'{"checkpoint": "drawings"}', False)
    )
    return texts, pictures


def tensors() -> tuple[bytes, ...]:
    said = {"checkpoint": "quads", "options": {"inner_steps": 2}}
    numbers = {
        "support.inputs": np.ones((3, 4), np.float32),
        "support.targets": np.array([[0.5], [1], [2]], np.float32),
        "query.inputs": np.zeros((1, 4)),
    }
    classes = {"support.inputs": np.ones((2, 2), np.int16), "support.targets": np.array([3, 4])}
    pictures = {"support.inputs": np.zeros((2, 8, 6, 1), np.uint8)}
    return (
        save(numbers, {"header": json.dumps(said)}),
        save(classes, {"header": '{"checkpoint": "plain"}'}),
        save(pictures, {"header": '{"checkpoint": "drawings", "support.labels": ["a", "b"]}'}),
        save(
            {},
            {"header": '{"checkpoint": "words", "support.inputs": ["a", "b"], "support.labels": [1, 2]}'},
        ),
    )


def predict_tensors() -> tuple[bytes, ...]:
    header = {"header": '{"model": "am_01J9ZK3V7Q8W5R2M4N6P0T1XYA", "top_k": 1}'}
    return save({"query.inputs": np.ones((2, 3), np.float16)}, header), save(
        {}, {"header": '{"model": "am_01J9ZK3V7Q8W5R2M4N6P0T1XYA", "query.inputs": ["a"]}'}
    )


def other_bodies() -> tuple[bytes, ...]:
    bodies: list[dict[str, Any]] = [
        {"name": "mine", "dataset": "ds_01J9ZK3V7Q8W5R2M4N6P0T1XYA", "learner": "protonet"},
        {
            "name": "mine",
            "dataset": "mine",
            "learner": "maml",
            "encoder": {"name": "mlp", "options": {"hidden": [8, 8]}},
            "steps": 100,
            "seed": 1,
        },
        {
            "name": "d",
            "format": "text_csv",
            "columns": {"inputs": "t", "label": "l"},
            "split": {"shares": {"train": 0.8, "test": 0.2}, "seed": 3},
        },
        {"name": "d", "source": "sinusoid"},
        {"name": "d", "source": "recorded-tasks", "checkpoint": "words", "tenants": ["a"]},
        {"checkpoint": "ckpt_01J9ZK3V7Q8W5R2M4N6P0T1XYA", "force": True},
        {"name": "k", "role": "admin", "expires_in_seconds": 60},
        {"ttl_seconds": 60, "metadata": {"a": "b"}},
        {"enabled": True, "retention_days": 30},
    ]
    return tuple(json.dumps(body).encode() for body in bodies)


def uploads() -> tuple[bytes, ...]:
    request = ("request", b'{"name": "mine"}', False)
    data = ("file", b"text,label\na,b\n" * 30, True)
    return form(request, data), form(data, ("splits", b'{"train": ["a"]}', False), request)
