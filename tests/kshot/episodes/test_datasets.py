"""Uploaded files: what is found in them, what is refused, and what a run reads of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kshot.contracts.checkpoints import ImageInput, TextInput, VectorInput
from kshot.contracts.datasets import DATASET_FILE, Columns, DatasetManifest
from kshot.contracts.errors import Invalid, KshotError, TooLarge, UnsupportedMediaType
from kshot.episodes.datasets import read_manifest, read_pool, read_table
from kshot.episodes.recorded import RecordedTask, read_recorded_pool, write_recorded
from tests.kshot.data_folder import data_folder
from tests.kshot.episodes.dataset_files import inspected, laid, npz, picture, picture_zip, text_csv, zipped

SPEC = ImageInput(height=8, width=8, channels=1)
TABLE = Columns(targets={"dose": "regression", "toxic": "classification"}, group="patient")


def table_csv(rows: int = 40, per_group: int = 2) -> bytes:
    """Dose is given in every third row, toxic in three of four."""
    dose = ["" if i % 3 else i * 0.5 for i in range(rows)]
    toxic = ["" if i % 4 == 1 else "ny"[i % 2] for i in range(rows)]
    lines = [f"p{i // per_group},{i},{i / 7},{dose[i]},{toxic[i]}" for i in range(rows)]
    return "\n".join(["patient,a,b,dose,toxic", *lines]).encode()


def test_a_zip_of_pictures_is_counted_described_and_split(tmp_path: Path) -> None:
    found = inspected(tmp_path, picture_zip(10, 3))
    assert (found.format, found.modality, found.task) == ("image_zip", "image", "classification")
    assert found.pictures is not None and found.pictures.model_dump() == {
        "greyscale": True, "width": 12, "height": 12, "dark_on_light": True,
    }  # fmt: skip
    assert {part: (count.n_classes, count.n_examples) for part, count in found.counts.items()} == {
        "train": (6, 18), "valid": (2, 6), "test": (2, 6),
    }  # fmt: skip
    assert found.n_examples == 30 and found.smallest == 3
    colour = inspected(tmp_path, picture_zip(3, 1, colour=True, size=16)).pictures
    assert colour is not None and not colour.greyscale and colour.width == 16


@pytest.mark.parametrize("name", ["image_zip", "text_csv", "text_jsonl", "vector_npz", "vector_csv"])
def test_a_run_reads_each_part_alone(tmp_path: Path, name: str) -> None:
    labels = [f"c{i % 10}" for i in range(40)]
    lines = [json.dumps({"text": f"say {i}", "label": label, "more": 1}) for i, label in enumerate(labels)]
    vectors = "\n".join(["a,label,b", *[f"{i},{label},1" for i, label in enumerate(labels)]]).encode()
    data = {
        "image_zip": picture_zip(10, 4), "text_csv": text_csv(10, 4), "text_jsonl": "\n".join(lines).encode(),
        "vector_npz": npz(inputs=np.arange(80.0).reshape(40, 2), labels=np.array(labels)), "vector_csv": vectors,
    }[name]  # fmt: skip
    spec = {"image": SPEC, "text": TextInput(), "vector": VectorInput(width=2)}
    folder = laid(tmp_path, data)
    manifest = read_manifest(folder)
    assert manifest.format == name
    pools = {part: read_pool(folder, part, spec[manifest.modality]) for part in ("train", "valid", "test")}
    assert {part: len(pool.classes) for part, pool in pools.items()} == {"train": 6, "valid": 2, "test": 2}
    for part, pool in pools.items():
        assert set(pool.classes) == set(manifest.splits[part]) and len(pool) == manifest.counts[part].n_examples
        assert [len(rows) for rows in pool.rows] == [4] * len(pool.classes)
    assert len(read_pool(folder, "trainval", spec[manifest.modality]).classes) == 8
    assert len(read_pool(folder, "all", spec[manifest.modality])) == 40
    with pytest.raises(Invalid, match="kind"):
        read_pool(folder, "train", VectorInput() if manifest.modality == "text" else TextInput())


def test_what_a_vector_means_survives(tmp_path: Path) -> None:
    pool = read_pool(laid(tmp_path, b"a,label,b\n1,x,2\n3,y,4\n5,x,6\n"), "train", VectorInput(width=2))
    assert pool.classes == ("x", "y")
    np.testing.assert_array_equal(pool.inputs[pool.rows[0]], [[1, 2], [5, 6]])
    with pytest.raises(Invalid, match="a list of 3 numbers"):
        read_pool(tmp_path, "train", VectorInput(width=3))


def test_a_table_keeps_its_groups_together_and_its_blanks(tmp_path: Path) -> None:
    folder = laid(tmp_path, table_csv(), columns=TABLE)
    manifest = read_manifest(folder)
    assert (manifest.format, manifest.task, manifest.width) == ("table_csv", "multitask", 2)
    parts = {part: read_table(folder, part) for part in ("train", "valid", "test")}
    assert {part: len(table) for part, table in parts.items()} == {
        part: count.n_examples for part, count in manifest.counts.items()
    }
    groups = [set(table.groups.tolist()) for table in parts.values()]
    assert all(groups) and not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    everything = read_table(folder, "all")
    assert [(target.name, target.kind, target.n_way) for target in everything.targets] == [
        ("dose", "regression", None), ("toxic", "classification", 2),
    ]  # fmt: skip
    by_first = {row[0]: values for row, values in zip(everything.inputs.tolist(), everything.values, strict=True)}
    np.testing.assert_array_equal(by_first[0.0], [0, 0])
    assert 1.0 not in by_first, "a row without any target"
    np.testing.assert_array_equal(by_first[3.0], [1.5, 1])
    np.testing.assert_array_equal(by_first[2.0], [np.nan, 0])


def test_a_split_of_ones_own_is_kept(tmp_path: Path) -> None:
    own = {"train": ["c3", "c1"], "test": ["c2", "c0"]}
    found = inspected(tmp_path, text_csv(6), splits=own)
    assert found.splits == {"train": ("c3", "c1"), "valid": (), "test": ("c2", "c0")}
    assert found.n_examples == 16, "classes in no part are left out"


@pytest.mark.parametrize(
    "splits",
    [
        {"train": ["c0", "c1"], "test": ["c1"]},
        {"train": ["c0", "c0"]},
        {"train": ["c0", "nobody"]},
        {"train": ["c0"], "test": ["c1"]},
        {"test": ["c0", "c1"]},
        {"train": ["c0", "c1"], "other": ["c2"]},
        {"train": "c0"},
        {"train": [0, 1]},
        {},
    ],
)
def test_a_split_that_makes_no_sense_is_refused(tmp_path: Path, splits: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        inspected(tmp_path, text_csv(4), splits=splits)
    assert refused.value.param is not None and refused.value.param.startswith("splits")
    assert "nobody" not in refused.value.message


@pytest.mark.parametrize(
    ("data", "row"),
    [
        (b"text,label\nfine,a\n,b\n", "row 2"),
        (b"text,label\nfine,a\n\nfine,  \n", "row 2"),
        (b"text,label\nfine,a\nsecret,b,c\n", "row 2"),
        (b"text,label\nfine,a\nsec\x00ret,b\n", "row 2"),
        (b"text,label\n" + b"x" * 4001 + b",a\n", "row 1"),
        (b"text,label\nfine," + b"y" * 201 + b"\n", "row 1"),
        (b'{"text": "fine", "label": "a"}\n{"text": "secret"}\n', "row 2"),
        (b'{"text": "fine", "label": true}\n', "row 1"),
        (b'{"text": "fine", "label": "a"}\n{"text": NaN, "label": "b"}\n', "row 2"),
        (b'{"text": "fine", "label": "a", "label": "b"}\n', "row 1"),
        (b'{"text": "\\ud800", "label": "a"}\n', "row 1"),
        (b'{"a": ' * 9000 + b"\n", "row 1"),
        (b"a,b,label\n1,2,x\n1,secret,y\n", "row 2"),
        (b"a,b,label\n1,2,x\n1,nan,y\n", "row 2"),
        (b"a,b,label\n1,2,x\n1,1e39,y\n", "row 2"),
        (b"a,b,label\n1,2,x\n1,2\n", "row 2"),
    ],
)
def test_a_row_at_fault_is_named_by_its_number_and_not_shown(tmp_path: Path, data: bytes, row: str) -> None:
    with pytest.raises(Invalid) as refused:
        inspected(tmp_path, data, filename="x.csv")
    assert row in refused.value.message and "secret" not in refused.value.message
    assert refused.value.param == "file"


@pytest.mark.parametrize(
    ("line", "message"),
    [("p,1,x,1,n", "row 41"), ("p,1,2,inf,n", "row 41"), ("p,1,2,x,n", "row 41"), (",1,2,1,n", "row 41")],
)
def test_a_row_of_a_table_too(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        inspected(tmp_path, table_csv() + f"\n{line}\n".encode(), columns=TABLE)


@pytest.mark.parametrize(
    ("data", "asked", "error"),
    [
        (b"", {}, Invalid),
        (b"\x80\x04K\x01.", {}, UnsupportedMediaType),
        (b"\x80\x04K\x01.", {"format": "text_csv"}, UnsupportedMediaType),
        (zipped({"model/data.pkl": b"\x80\x02K\x01."}), {}, UnsupportedMediaType),
        (b"\x93NUMPY\x01\x00", {}, UnsupportedMediaType),
        (b"\x1f\x8b\x08\x00", {"filename": "x.csv"}, UnsupportedMediaType),
        (picture(0), {}, UnsupportedMediaType),
        (b"\x7fELF\x02\x01\x01\x00\x00", {}, UnsupportedMediaType),
        (zipped({"a/0.gif": b"GIF89a"}), {}, UnsupportedMediaType),
        (zipped({"a/0.png": b"GIF89a", "b/0.png": picture(0)}), {}, UnsupportedMediaType),
        (text_csv(), {"format": "image_zip"}, UnsupportedMediaType),
        (picture_zip(), {"format": "text_csv"}, UnsupportedMediaType),
        (text_csv(), {"format": "sinusoid"}, Invalid),
        (b"text,label\n\xe9t\xe9,a\n", {"filename": "latin1.csv"}, Invalid),
        ("text,label\nx,a\n".encode("utf-16"), {"filename": "x.csv"}, Invalid),
        (b"text,label\n", {}, Invalid),
        (b"text,label\nx,a\ny,a\n", {}, Invalid),
        (b"text,text\nx,a\n", {}, Invalid),
        (b"words,label\nx,a\ny,b\n", {}, Invalid),
        (b'text,label\n"x,a\n', {}, Invalid),
        (text_csv(), {"columns": Columns(inputs="nothing")}, Invalid),
        (text_csv(), {"columns": Columns(label="nothing")}, Invalid),
        (text_csv(), {"columns": Columns(targets={"nothing": "regression"})}, Invalid),
        (table_csv(), {"columns": TABLE, "splits": {"train": ["a", "b"]}}, Invalid),
        (b"a,t\n1,x\n2,x\n", {"columns": Columns(targets={"t": "classification"})}, Invalid),
        (b"t\n1\n2\n", {"columns": Columns(targets={"t": "regression"})}, Invalid),
        (picture_zip(1), {}, Invalid),
        (zipped({"a/0.png": picture(0)[:45], "b/0.png": picture(0)}), {}, Invalid),
        (zipped({"../a/0.png": picture(0), "b/0.png": picture(0)}), {}, Invalid),
        (b"PK\x03\x04" + b"\0" * 100, {}, Invalid),
        (npz(inputs=np.full((4, 2), np.nan), labels=np.arange(4)), {}, Invalid),
        (npz(inputs=np.ones((4, 2)) * 1e300, labels=np.arange(4)), {}, Invalid),
        (npz(inputs=np.array([{}, 1], object), labels=np.arange(2)), {}, Invalid),
        (npz(other=np.ones((4, 2))), {}, Invalid),
        (npz(inputs=np.zeros((2**22, 2), np.uint8)), {}, KshotError),
        (zipped({"a/0.png": b"\0" * 2**25}), {}, TooLarge),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(tmp_path: Path, data: bytes, asked: Any, error: type[KshotError]) -> None:
    with pytest.raises(error) as refused:
        inspected(tmp_path, data, **asked)
    assert str(tmp_path) not in refused.value.message


def test_no_more_numbers_than_a_row_can_have(tmp_path: Path) -> None:
    wide = ",".join(["label", *(f"c{i}" for i in range(65_537))])
    with pytest.raises(Invalid, match="65536"):
        inspected(tmp_path, f"{wide}\n{'0,' * 65_537}0\n".encode())


@pytest.mark.parametrize(("n", "counts"), [(2, [2, 0, 0]), (3, [3, 0, 0]), (4, [2, 0, 2]), (5, [3, 0, 2]),
                                           (6, [2, 2, 2]), (8, [4, 2, 2]), (100, [64, 16, 20])])  # fmt: skip
def test_small_sets_keep_two_classes_to_train_on(tmp_path: Path, n: int, counts: list[int]) -> None:
    found = inspected(tmp_path, text_csv(n, 1))
    assert [found.counts[part].n_classes for part in ("train", "valid", "test")] == counts


def recorded(folder: Path, tasks: list[RecordedTask], **manifest: Any) -> Path:
    write_recorded(folder / "data.safetensors", tasks)
    described = DatasetManifest(
        id="ds_1", name="tasks", format="recorded_tasks", modality="text", file="data.safetensors", **manifest
    )
    (folder / DATASET_FILE).write_text(described.model_dump_json())
    return folder


def text_tasks(n: int) -> list[RecordedTask]:
    return [RecordedTask(f"am_{i}", [f"é{i} {j}" for j in range(6)], [f"c{j % 3}" for j in range(6)]) for i in range(n)]


def test_recorded_tasks_are_groups_and_stay_on_their_side(tmp_path: Path) -> None:
    def sides(n: int) -> dict[str, str]:
        folder = tmp_path / str(n)
        folder.mkdir()
        recorded(folder, text_tasks(n))
        pools = {part: read_pool(folder, part, TextInput()) for part in ("train", "valid", "test")}
        assert all(pool.groups is not None and all(len(group) == 3 for group in pool.groups) for pool in pools.values())
        return {name.split("/")[0]: part for part, pool in pools.items() for name in pool.classes}

    few, many = sides(40), sides(80)
    assert len(few) == 40 and len(many) == 80
    assert few.items() <= many.items()
    assert set(sides(3).values()) == {"train", "valid", "test"}


def test_a_recorded_task_reads_back_as_it_was(tmp_path: Path) -> None:
    folder = recorded(tmp_path, text_tasks(3))
    pool = read_recorded_pool(folder / "data.safetensors", ["am_1"])
    assert pool.classes == ("am_1/c0", "am_1/c1", "am_1/c2") and pool.groups == ((0, 1, 2),)
    assert [pool.inputs[row] for row in pool.rows[1]] == ["é1 1", "é1 4"] and len(pool) == 6


def test_recorded_tasks_of_regression_are_a_table(tmp_path: Path) -> None:
    tasks = [
        RecordedTask(f"am_{i}", np.full((5, 3), i, np.float32), values=np.full((5, 2), -i, np.float32))
        for i in range(20)
    ]
    folder = recorded(tmp_path, tasks, task="regression")
    table = read_table(folder, "train")
    assert [target.kind for target in table.targets] == ["regression"] * 2
    np.testing.assert_array_equal(table.values[:, 0], -table.inputs[:, 0])
    assert len(read_table(folder, "all")) == 100
    with pytest.raises(Invalid, match="no classes"):
        read_recorded_pool(folder / "data.safetensors", ["am_1"])


def test_recorded_tasks_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    one = RecordedTask("a", np.ones((2, 3), np.float32), ["x", "y"])
    other = RecordedTask("b", np.ones((2, 4), np.float32), ["x", "y"])
    for tasks in ([one, other], [one, *text_tasks(1)], []):
        with pytest.raises(Invalid):
            write_recorded(tmp_path / "file", tasks)


def test_real_intents(tmp_path: Path) -> None:
    data = (data_folder("clinc150/clinc150.csv") / "clinc150/clinc150.csv").read_bytes()
    found = inspected(tmp_path, data, columns=Columns(inputs="text", label="intent"))
    classes = sum(count.n_classes or 0 for count in found.counts.values())
    assert found.format == "text_csv" and classes == 151 and found.n_examples == 23_700
