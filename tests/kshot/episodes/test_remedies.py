"""What a refusal of a file tells its sender: which field, and what to do."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kshot.contracts.datasets import Columns
from kshot.contracts.errors import KshotError
from tests.kshot.episodes.dataset_files import inspected, npz, picture, picture_zip, text_csv, zipped

NUMBERS = b"a,b,c\n1,2,3\n4,5,6\n"
PREDICT_C = Columns(targets={"c": "regression"})
CLASSES_OF_B = Columns(targets={"b": "classification"})
GROUPED = Columns(group="c")


def floats(classes: int) -> bytes:
    return "\n".join(["a,b", *(f"{i},{i / 7}" for i in range(classes))]).encode()


@pytest.mark.parametrize(
    ("data", "asked", "param", "words"),
    [
        (b"text,category\nx,a\ny,b\n", {}, "columns.label", ['no column "label"', "say which one in columns.label"]),
        (text_csv(), {"columns": Columns(inputs="w\0")}, "columns.inputs", ['no column "w?"', "columns.inputs"]),
        (NUMBERS, {}, "columns.label", ['no column "label"', "columns.targets"]),
        (NUMBERS, {"columns": Columns(targets={"d": "regression"})}, "columns.targets.d", ['no column "d"']),
        (NUMBERS, {"columns": PREDICT_C.model_copy(update={"group": "g"})}, "columns.group", ['no column "g"']),
        (b'{"words": "x", "label": "a"}\n', {}, "columns.inputs", ['no key "text"', "columns.inputs"]),
        (b'{"text": "x", "intent": "a"}\n', {}, "columns.label", ['no key "label"', "columns.label"]),
        (npz(inputs=np.eye(3), y=np.arange(3)), {}, "columns.label", ['no array "labels"', "columns.label"]),
        (npz(x=np.eye(3), labels=np.arange(3)), {}, "columns.inputs", ['no array "inputs"', "columns.inputs"]),
        (b'[\n {"text": "x", "label": "a"}]', {"filename": "x.json"}, "file", ["JSON lines"]),
        (b'[{"text": "x", "label": "a"}]', {"format": "text_jsonl"}, "file", ["JSON lines"]),
        (b'{\n"text": "x"\n}\n', {}, "file", ["row 1", "each line"]),
        (b"text,label\n" + b"x" * 4001 + b",a\n", {}, "file", ["row 1", "4000"]),
        (b"text,label\nx,a\n" + b"x" * 200_000 + b",a\n", {}, "file", ["line 3", "4000", str(csv.field_size_limit())]),
        (b'{"text": "x", "label": 1.5}\n', {}, "file", ["row 1", "neither a string nor an integer"]),
        (b"text;label\nx;a\n", {}, "file", ["expected commas"]),
        (b"text\tlabel\nx\ta\n", {"filename": "x.tsv"}, "file", ["expected commas"]),
        (zipped({"a/0.png": b"\x88" + picture(0)[1:], "b/0.png": picture(0)}), {}, "file", ["entry 1", "damaged"]),
        (zipped({"a/0.png": b"GIF89a", "b/0.png": picture(0)}), {}, "file", ["only PNG and JPEG"]),
        (floats(201), {"columns": CLASSES_OF_B}, "columns.targets.b", ['"b"', "is this a regression target?"]),
        (picture_zip(), {"columns": PREDICT_C}, "columns.targets", ["leave this out"]),
        (picture_zip(), {"columns": GROUPED}, "columns.group", ["leave this out"]),
        (text_csv(), {"columns": GROUPED}, "columns.group", ["leave this out"]),
        (text_csv(), {"columns": PREDICT_C, "format": "text_csv"}, "columns.targets", ["leave this out"]),
        (b"a,label,c\n1,x,3\n4,y,6\n", {"columns": GROUPED}, "columns.group", ["leave this out"]),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_and_the_remedy(
    tmp_path: Path, data: bytes, asked: dict[str, Any], param: str, words: list[str]
) -> None:
    with pytest.raises(KshotError) as refused:
        inspected(tmp_path, data, **asked)
    assert refused.value.param == param
    assert all(word in refused.value.message for word in words), refused.value.message


def test_two_hundred_classes_are_a_target_still(tmp_path: Path) -> None:
    assert inspected(tmp_path, floats(200), columns=CLASSES_OF_B).task == "multitask"
