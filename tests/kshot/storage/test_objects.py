"""A blob is there whole or not at all, and only under keys the server made."""

import os
import time
from pathlib import Path

import pytest

from kshot.contracts.errors import NotFound
from kshot.storage.objects import LocalObjects


def test_put_get_delete(tmp_path: Path):
    objects = LocalObjects(tmp_path)
    objects.put("states/a.safetensors", b"one")
    objects.put("states/a.safetensors", b"two")
    assert objects.get("states/a.safetensors") == b"two"
    objects.delete("states/a.safetensors")
    objects.delete("states/a.safetensors")
    with pytest.raises(NotFound):
        objects.get("states/a.safetensors")


def test_a_failed_write_leaves_nothing(tmp_path: Path):
    objects = LocalObjects(tmp_path)
    (tmp_path / "states" / "a").mkdir(parents=True)  # the rename will fail
    with pytest.raises(OSError, match="directory"):
        objects.put("states/a", b"one")
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["a"]


def test_the_names_on_the_way_to_a_blob_reach_the_disk_before_put_returns(tmp_path: Path, monkeypatch):
    synced: list[int] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    LocalObjects(tmp_path).put("states/deep/a", b"one")
    folders = [tmp_path, tmp_path / "states", tmp_path / "states" / "deep"]
    assert {folder.stat().st_ino for folder in folders} <= set(synced)
    assert synced[-1] == folders[-1].stat().st_ino  # after the rename


@pytest.mark.parametrize(
    "key", ["../x", "states/../../x", "/etc/passwd", "states/", "states/.", "file://x", "a b/c", ""]
)
def test_path_tricks_are_no_keys(tmp_path: Path, key: str):
    with pytest.raises(ValueError, match="not an object key"):
        LocalObjects(tmp_path / "store").get(key)


def test_a_staged_file_becomes_a_blob(tmp_path: Path):
    objects = LocalObjects(tmp_path)
    staged = objects.staging() / "upload"
    staged.write_bytes(b"large")
    objects.adopt("datasets/a.zip", staged)
    assert not staged.exists() and objects.get("datasets/a.zip") == b"large"
    assert objects.file("datasets/a.zip").read_bytes() == b"large"
    objects.delete("datasets/a.zip")
    with pytest.raises(NotFound):
        objects.file("datasets/a.zip")


def test_an_adopted_file_and_its_name_reach_the_disk(tmp_path: Path, monkeypatch):
    objects = LocalObjects(tmp_path)
    staged = objects.staging() / "upload"
    staged.write_bytes(b"large")
    inode, synced = staged.stat().st_ino, []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    objects.adopt("datasets/a.zip", staged)
    assert synced[-2:] == [inode, (tmp_path / "datasets").stat().st_ino]


def test_the_sweep_takes_what_was_left_half_written_an_hour_ago_and_no_blob(tmp_path: Path):
    objects = LocalObjects(tmp_path)
    objects.put("states/a", b"one")
    old, fresh = objects.staging() / "old", objects.staging() / "fresh"
    half = tmp_path / "states" / ".b.half"
    for file in (old, fresh, half):
        file.write_bytes(b"half")
    long_ago = time.time() - 2 * 3600
    for file in (old, half, tmp_path / "states" / "a"):
        os.utime(file, (long_ago, long_ago))
    objects.sweep()
    assert not old.exists() and not half.exists()
    assert fresh.exists() and objects.get("states/a") == b"one"


def test_keys_are_those_below_a_folder(tmp_path: Path):
    objects = LocalObjects(tmp_path)
    for key in ("jobs/a/2", "jobs/a/1", "jobs/ab/1", "states/a"):
        objects.put(key, b"")
    (tmp_path / "jobs" / "a" / ".3.unfinished").write_bytes(b"")
    assert objects.keys("jobs/a") == ["jobs/a/1", "jobs/a/2"]
    assert objects.keys("jobs") == ["jobs/a/1", "jobs/a/2", "jobs/ab/1"]
    assert objects.keys("none") == []
