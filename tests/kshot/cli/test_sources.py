"""Folders, CSV and npz files as the commands read them, and what they say where they cannot."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kshot.cli.sources.csv_files import Asked
from kshot.cli.sources.examples import Examples, WrongUse
from kshot.cli.sources.reading import read_labelled, read_questions
from kshot.cli.splitting import split


def csv(folder: Path, text: str) -> Path:
    file = folder / "rows.csv"
    file.write_text(text, encoding="utf-8")
    return file


def npz(folder: Path, **arrays: Any) -> Path:
    file = folder / "arrays.npz"
    np.savez(file, **arrays)
    return file


def pictures(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n" if name.endswith("png") else b"\xff\xd8\xff")
    return folder


def test_class_folders_name_the_classes_and_hidden_files_are_none(tmp_path: Path):
    folder = pictures(tmp_path, "cat/a.png", "cat/b.JPG", "Greek/alpha/c.jpeg", ".thumbs/x.png", "__MACOSX/cat/y.png")
    (folder / "cat" / "notes.txt").write_text("no picture")
    found = read_labelled(folder, Asked())
    assert found.modality == "image"
    assert dict(zip(found.names, found.labels or [], strict=True)) == {
        "Greek/alpha/c.jpeg": "Greek/alpha", "cat/a.png": "cat", "cat/b.JPG": "cat",
    }  # fmt: skip
    assert found.said == ("3 pictures in 2 class folders", "passed over 1 files that are no PNG or JPEG")


@pytest.mark.parametrize(
    ("text", "asked", "inputs", "labels"),
    [
        ("text,category\nhello,greet\n", Asked(), ["hello"], ["greet"]),
        ("sentence;kind\nhello;greet\n", Asked(), ["hello"], ["greet"]),
        ('\ufeffLabel\tWords\na\t"b\tc"\n', Asked(), ["b\tc"], ["a"]),
        ("id,text,said\n7,hello,greet\n", Asked(label="said"), ["hello"], ["greet"]),
        ("one,two\nhello,greet\n", Asked(label="two", text="one"), ["hello"], ["greet"]),
        ("a,b,label\n1,2,3\n4,5,6\n", Asked(), [[1, 2], [4, 5]], ["3", "6"]),
        ("a,label,b\n1,0.5,2\n4,2,5\n", Asked(), [[1, 2], [4, 5]], [0.5, 2.0]),
        ("a,label\n1,0.5\n4,2\n", Asked(task="classification"), [[1], [4]], ["0.5", "2"]),
        ("a,y\n1,3\n4,2\n", Asked(task="regression"), [[1], [4]], [3.0, 2.0]),
        ("text,label\n12,x\n7,y\n", Asked(modality="text"), ["12", "7"], ["x", "y"]),
    ],
)
def test_csv_columns_are_guessed_or_said(tmp_path: Path, text: str, asked: Asked, inputs: Any, labels: Any):
    found = read_labelled(csv(tmp_path, text), asked)
    assert (found.inputs.tolist() if isinstance(found.inputs, np.ndarray) else found.inputs) == inputs
    assert found.labels == labels


def test_what_was_guessed_is_said(tmp_path: Path):
    said = read_labelled(csv(tmp_path, "text,category\nhello,greet\nbye,part\n"), Asked()).said
    assert said == ("2 rows; text column: text; label column: category (2 classes)",)


def test_npz_arrays_are_vectors_pictures_or_texts(tmp_path: Path):
    vectors = read_labelled(npz(tmp_path, X=np.ones((2, 3)), y=np.array([1, 2])), Asked())
    assert (vectors.modality, vectors.labels) == ("vector", ["1", "2"])
    assert isinstance(vectors.inputs, np.ndarray) and vectors.inputs.dtype == np.float32
    shown = npz(tmp_path, images=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array(["a", "b"]))
    assert read_labelled(shown, Asked()).modality == "image"
    told = read_labelled(npz(tmp_path, texts=np.array(["hi", "ho"]), labels=np.array(["a", "b"])), Asked())
    assert (told.modality, told.inputs, told.labels) == ("text", ["hi", "ho"], ["a", "b"])
    curve = read_labelled(npz(tmp_path, a=np.ones((2, 1)), b=np.array([0.5, 2.0])), Asked(label="b", text="a"))
    assert curve.labels == [0.5, 2.0]
    several = read_labelled(npz(tmp_path, inputs=np.ones((2, 1)), labels=np.eye(2)), Asked())
    assert several.labels == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("text", "asked", "remedy"),
    [
        ("", Asked(), "has no rows"),
        ("text,label\n", Asked(), "has no rows"),
        ("text,label\na\n", Asked(), "row 1 of"),
        ("a,b,c\nx,y,z\n", Asked(), "It has a, b, c; say --label-column NAME"),
        ("text,label\na,b\n", Asked(label="class"), "no column 'class'; --label-column may be one of text, label"),
        ("text,label\na,b\n", Asked(text="words"), "no column 'words'; --text-column may be one of text, label"),
        ("a,b,label\nx,y,z\n", Asked(), "which column of"),
        ("a,b,label\n1,2,z\n1,x,z\n", Asked(), "column 'b' of"),
        ("a,label\n1,high\n", Asked(task="regression"), "'high' is no number"),
        ("label\nx\n", Asked(), "holds the text"),
    ],
)
def test_csv_faults_name_column_or_row_and_the_option(tmp_path: Path, text: str, asked: Asked, remedy: str):
    with pytest.raises(WrongUse, match=remedy):
        read_labelled(csv(tmp_path, text), asked)


def test_a_row_without_a_label_is_named_only_where_labels_are_needed(tmp_path: Path):
    found = read_labelled(csv(tmp_path, "text,label\nhello,greet\nwhat,\n"), Asked())
    assert found.labels == ["greet", None]
    with pytest.raises(WrongUse, match="what has no label"):
        found.known_labels()


@pytest.mark.parametrize(
    ("arrays", "remedy"),
    [
        ({"a": np.ones(3), "b": np.ones(3)}, "say --text-column NAME"),
        ({"inputs": np.ones((3, 2)), "labels": np.ones(2)}, "2 labels for 3 inputs"),
        ({"inputs": np.array([{}], object)}, "plain arrays"),
        ({"inputs": np.ones((3, 2, 2, 2)), "labels": np.arange(3)}, "expected numbers"),
        ({"inputs": np.ones((0, 2)), "labels": np.ones(0)}, "is empty"),
        ({"inputs": np.ones((3, 2))}, "no labels that could be found"),
    ],
)
def test_npz_faults_say_what_is_expected(tmp_path: Path, arrays: dict[str, Any], remedy: str):
    with pytest.raises(WrongUse, match=remedy):
        read_labelled(npz(tmp_path, **arrays), Asked())


def test_folders_without_classes_or_pictures_are_told_what_belongs_there(tmp_path: Path):
    with pytest.raises(WrongUse, match="holds no files: expected one folder per class"):
        read_labelled(tmp_path, Asked())
    pictures(tmp_path, "a.png")
    with pytest.raises(WrongUse, match="put those of each class in one of its own"):
        read_labelled(tmp_path, Asked())
    with pytest.raises(WrongUse, match="no file or folder"):
        read_labelled(tmp_path / "nowhere", Asked())
    (tmp_path / "b.jpg").write_bytes(b"GIF89a")
    with pytest.raises(WrongUse, match=r"b\.jpg is no PNG or JPEG, whatever its name says"):
        read_labelled(tmp_path, Asked())


def test_what_the_checkpoint_does_not_take_is_refused_before_it_is_sent(tmp_path: Path):
    texts = csv(tmp_path, "text,label\nhello,greet\n")
    with pytest.raises(WrongUse, match="the checkpoint takes pictures: name a folder"):
        read_labelled(texts, Asked(modality="image"))
    with pytest.raises(WrongUse, match="these are texts, and the checkpoint takes vectors"):
        read_questions([str(texts)], Asked(text="text", modality="vector"))


def test_questions_are_texts_files_or_lines(tmp_path: Path):
    texts = ["where is my card?", "hello"]
    assert read_questions(texts, Asked(modality="text")).inputs == texts
    folder = pictures(tmp_path, "a.png", "b.png")
    one, two = str(folder / "a.png"), str(folder / "b.png")
    assert len(read_questions([one, two], Asked(modality="image"))) == 2
    assert read_questions([str(folder)], Asked(modality="image")).labels is None
    lines = tmp_path / "lines.txt"
    lines.write_text("one\n\ntwo\n")
    assert read_questions([str(lines)], Asked(modality="text")).inputs == ["one", "two"]
    for lost, modality in (("cat.pgn", "image"), ("rows.csv", "text"), ("rows", "vector")):
        with pytest.raises(WrongUse, match=f"no file or folder {lost}"):
            read_questions([lost], Asked(modality=modality))  # type: ignore[arg-type]
    with pytest.raises(WrongUse, match="pictures only"):
        read_questions([one, str(lines)], Asked())


def labelled(*labels: Any) -> Examples:
    names = [str(i) for i in range(len(labels))]
    return Examples("text", list(names), names, list(labels))


def test_a_share_or_all_but_the_shots_of_each_class_are_kept_back():
    examples = labelled(*"aaaaabbbbb")
    for holdout, shots, taught, kept in ((0.4, None, 6, 4), (None, 2, 4, 6), (0.4, 1, 2, 4)):
        support, back = split(examples, holdout, shots, seed=1)
        assert back is not None
        assert [len(support), len(back)] == [taught, kept]
        assert not set(support.names) & set(back.names)
        assert (support.labels or []).count("a") == (support.labels or []).count("b")
    assert split(examples, None, None, 1) == (examples, None)
    again, _ = split(examples, None, 2, seed=1)
    assert again == split(examples, None, 2, seed=1)[0] and again != split(examples, None, 2, seed=2)[0]


def test_a_class_is_never_kept_back_whole_and_values_are_split_as_rows():
    support, back = split(labelled("a", "b", "b", "b"), 0.9, None, 0)
    assert sorted(support.labels or []) == ["a", "b"] and back is not None and len(back) == 2
    support, back = split(labelled(0.5, 1.0, 2.5, 3.0), None, 3, 0)
    assert len(support) == 3 and back is not None and len(back) == 1
    with pytest.raises(WrongUse, match="lower --shots"):
        split(labelled("a", "b"), None, 5, 0)
