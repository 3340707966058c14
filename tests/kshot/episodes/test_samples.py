"""A few examples of a data set, to be looked at."""

from pathlib import Path

import numpy as np
import pytest

from kshot.contracts.datasets import Columns, DatasetManifest, Format, Modality
from kshot.episodes.samples import in_turns, look_into


def manifest(format: Format, modality: Modality, **more: object) -> DatasetManifest:
    return DatasetManifest.model_validate(
        {"id": "ds_1", "name": "some", "format": format, "modality": modality, **more}
    )


def test_each_class_once_before_any_comes_twice() -> None:
    assert list(in_turns(["a1", "a2", "a3", "b1", "c1", "c2"], lambda one: one[0])) == [
        "a1", "b1", "c1", "a2", "c2", "a3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("format", "content"),
    [
        ("text_csv", "text,label\none,a\ntwo,a\nthree,b\n"),
        (
            "text_jsonl",
            '{"text": "one", "label": "a"}\n{"text": "two", "label": "a"}\n{"text": "three", "label": "b"}\n',
        ),
    ],
)
def test_texts(tmp_path: Path, format: Format, content: str) -> None:
    (tmp_path / "file").write_text(content)
    found = look_into(tmp_path / "file", manifest(format, "text"), 2)
    assert [(one.label, one.text) for one in found] == [("a", "one"), ("b", "three")]


def test_vectors_show_their_first_numbers(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("x,label,y\n1,a,2\n3,b,4\n")
    found = look_into(tmp_path / "file.csv", manifest("vector_csv", "vector"), 9)
    assert [(one.label, one.numbers) for one in found] == [("a", (1.0, 2.0)), ("b", (3.0, 4.0))]
    np.savez(tmp_path / "file.npz", inputs=np.arange(40.0).reshape(4, 10), labels=np.array([7, 7, 8, 8]))
    columns = Columns(inputs="inputs", label="labels")
    found = look_into(tmp_path / "file.npz", manifest("vector_npz", "vector", columns=columns), 3)
    assert [one.label for one in found] == ["7", "8", "7"]
    assert found[1].numbers == tuple(range(20, 28))


def test_a_table_shows_its_targets_apart(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("g,x,price,kind\n1,0.5,3,big\n1,0.7,,small\n")
    columns = Columns(targets={"price": "regression", "kind": "classification"}, group="g")
    found = look_into(tmp_path / "file.csv", manifest("table_csv", "vector", task="multitask", columns=columns), 9)
    assert [one.numbers for one in found] == [(0.5,), (0.7,)]
    assert [one.targets for one in found] == [{"price": "3", "kind": "big"}, {"price": "", "kind": "small"}]


def test_what_is_drawn_has_nothing_to_show(tmp_path: Path) -> None:
    assert look_into(tmp_path / "none", manifest("sinusoid", "vector", task="regression"), 9) == []
