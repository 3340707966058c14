"""Zips and CSV files -> pools; Omniglot as its archive is."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.errors import Invalid, KshotError
from kshot.episodes.images import read_image_zip
from kshot.episodes.omniglot import read_omniglot, write_omniglot_zip
from kshot.episodes.pool import pool_from_labels, select_classes, with_rotations
from kshot.episodes.splits import read_splits, split_classes
from kshot.episodes.texts import read_text_csv
from tests.kshot.data_folder import data_folder
from tests.kshot.episodes.dataset_files import as_png, zipped

SPEC = ImageInput(height=8, width=8, channels=3)
COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}


def png(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 10), colour).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(folder: Path) -> Path:
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(3):
            (folder / name / f"{number}.png").write_bytes(png(colour))
    return folder


def archive(folder: Path, inside: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for file in sorted(folder.rglob("*.png")):
            made.write(file, inside + str(file.relative_to(folder)))
        made.writestr("README.txt", "not a picture")
        made.writestr("__MACOSX/red/._0.png", "not a picture either")
    return buffer.getvalue()


def test_a_zip_of_class_folders_is_a_pool_whatever_folder_they_lie_in(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set")
    for inside in ("", "outer/", "outer/inner/"):
        pool = read_image_zip(archive(folder, inside), SPEC)
        assert pool.classes == ("blue", "red")
        assert pool.inputs.shape == (6, 8, 8, 3) and pool.inputs.dtype == np.uint8
        assert pool.inputs[pool.rows[1][0], 0, 0].tolist() == [255, 0, 0]


def test_nested_folders_name_a_class_by_its_whole_path(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name in ("Greek/character01", "Greek/character02", "Latin/character01"):
            made.writestr(f"images_background/{name}/0709_01.png", png((1, 2, 3)))
    pool = read_image_zip(buffer.getvalue(), SPEC)
    assert pool.classes == ("Greek/character01", "Greek/character02", "Latin/character01")
    assert read_image_zip(buffer.getvalue(), SPEC, classes=["Latin/character01"]).classes == ("Latin/character01",)


def test_only_the_wanted_classes_are_read(tmp_path: Path) -> None:
    assert read_image_zip(archive(pictures(tmp_path / "set")), SPEC, classes=["red"]).classes == ("red",)


def test_an_empty_or_flat_set_is_refused() -> None:
    for names in ([], ["0.png"], ["red/0.png", "0.png"]):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as made:
            for name in names:
                made.writestr(name, png((1, 2, 3)))
        with pytest.raises(Invalid, match="one folder per class"):
            read_image_zip(buffer.getvalue(), SPEC)


def test_a_damaged_picture_is_refused_by_its_number(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set")
    (folder / "red" / "0.png").write_bytes(png((1, 2, 3))[:40])
    with pytest.raises(KshotError, match="entry 4 of the archive"):
        read_image_zip(archive(folder), SPEC)


def test_csv_with_line_breaks_in_texts() -> None:
    pool = read_text_csv(b'text,label\n"one,\ntwo",a\n\nthree,b\nfour,a\n')
    assert pool.inputs == ["one,\ntwo", "three", "four"]
    assert [rows.tolist() for rows in pool.rows] == [[0, 2], [1]]


@pytest.mark.parametrize(
    "content", [b"", b"text,other\na,b\n", b"text,label\n", b"text,label\n\xff,a\n", b'text,label\n"a,b\n']
)
def test_what_is_no_labelled_csv_is_refused(content: bytes) -> None:
    with pytest.raises(Invalid):
        read_text_csv(content)


def test_splits_are_read_and_disjoint(tmp_path: Path) -> None:
    file = tmp_path / "splits.json"
    file.write_text('{"01": {"train": ["a", "b"], "test": ["c"]}}')
    assert read_splits(file, "01") == {"train": ("a", "b"), "test": ("c",)}
    file.write_text('{"train": ["a", "b"], "test": ["b"]}')
    with pytest.raises(Invalid, match="two splits"):
        read_splits(file)
    for wrong in ("[]", "{", '{"train": 3}'):
        file.write_text(wrong)
        with pytest.raises(Invalid, match="cannot be read"):
            read_splits(file)


def test_random_splits_cover_every_class_once() -> None:
    classes, shares = [f"c{i}" for i in range(31)], (0.6, 0.2, 0.2)
    splits = split_classes(classes, shares, seed=3)
    assert {part: len(names) for part, names in splits.items()} == {"train": 19, "valid": 6, "test": 6}
    assert sorted(name for names in splits.values() for name in names) == sorted(classes)
    assert splits == split_classes(classes, shares, seed=3) != split_classes(classes, shares, seed=4)


def test_a_split_pool_holds_no_other_inputs() -> None:
    pool = pool_from_labels(["x1", "y1", "x2", "z1"], ["x", "y", "x", "z"])
    part = select_classes(pool, ["z", "x"])
    assert part.inputs == ["z1", "x1", "x2"] and part.classes == ("z", "x")
    with pytest.raises(Invalid, match="not in the data"):
        select_classes(pool, ["w"])


def test_rotations_are_classes_of_their_own() -> None:
    picture = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1)
    pool = with_rotations(pool_from_labels(picture, ["c"]))
    assert pool.classes == ("c/rot000", "c/rot090", "c/rot180", "c/rot270")
    for turn, rows in enumerate(pool.rows):
        np.testing.assert_array_equal(pool.inputs[rows[0]], np.rot90(picture[0], turn))


def test_omniglot_is_complete_and_split_by_class() -> None:
    file = data_folder("omniglot/omniglot28_bits.npz") / "omniglot/omniglot28_bits.npz"
    splits = {split: read_omniglot(file, split) for split in ("train", "valid", "test")}
    assert {split: len(pool.classes) for split, pool in splits.items()} == {"train": 1028, "valid": 172, "test": 423}
    assert len({name for pool in splits.values() for name in pool.classes}) == 1623
    test = splits["test"]
    assert test.inputs.shape == (423 * 20, 28, 28, 1)
    assert set(np.unique(test.inputs)) == {0, 255}
    assert 0.05 < (test.inputs > 0).mean() < 0.3, "ink is the smaller part, and is 255"


def test_another_archive_is_not_omniglot() -> None:
    folder = data_folder("tox21/tox21_ecfp1024.npz")
    with pytest.raises(Invalid, match="Omniglot"):
        read_omniglot(folder / "tox21/tox21_ecfp1024.npz", "test")


def original_omniglot(folder: Path) -> None:
    """Two small archives as Lake's are: 12 background characters of two alphabets, 3 to evaluate on."""
    for root, names in {
        "images_background": [f"{alphabet}/character{i:02}" for alphabet in ("Greek", "Latin") for i in range(6)],
        "images_evaluation": [f"Tibetan/character{i:02}" for i in range(3)],
    }.items():
        drawings = {f"{root}/{name}/000{j}.png": as_png(strokes(j)) for name in names for j in range(2)}
        (folder / f"{root}.zip").write_bytes(zipped({f"{root}/": b"", **drawings}))


def strokes(seed: int) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random((28, 28)) < 0.1, 0, 255).astype(np.uint8)


def test_the_original_omniglot_archives_become_one(tmp_path: Path) -> None:
    original_omniglot(tmp_path)
    splits = write_omniglot_zip(tmp_path, tmp_path / "made.zip")
    assert splits["test"] == [f"Tibetan/character{i:02}" for i in range(3)]
    assert len(splits["train"]) == 10 and len(splits["valid"]) == 2
    pool = read_image_zip(tmp_path / "made.zip", ImageInput(height=28, width=28, channels=1))
    assert sorted(pool.classes) == sorted(name for names in splits.values() for name in names)
    np.testing.assert_array_equal(np.asarray(pool.inputs)[pool.rows[0][1], :, :, 0], strokes(1))
    first = (tmp_path / "made.zip").read_bytes()
    write_omniglot_zip(tmp_path, tmp_path / "made.zip")
    assert (tmp_path / "made.zip").read_bytes() == first


def test_without_omniglot_the_remedy_is_said(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="KSHOT_DATA"):
        write_omniglot_zip(tmp_path, tmp_path / "made.zip")
