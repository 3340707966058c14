"""A folder as the object store: what reaches the disk, and what failed writes leave."""

import os
import time
from pathlib import Path

import pytest

from kshot.storage.objects import LocalObjects


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


def test_a_file_being_written_is_no_key(tmp_path: Path):
    objects = LocalObjects(tmp_path)
    objects.put("jobs/a/1", b"")
    (tmp_path / "jobs" / "a" / ".3.unfinished").write_bytes(b"")
    assert objects.keys("jobs/a") == ["jobs/a/1"]


def test_a_folder_that_is_gone_does_not_answer(tmp_path: Path):
    objects = LocalObjects(tmp_path / "objects")
    (tmp_path / "objects").rmdir()
    with pytest.raises(OSError, match="cannot be used"):
        objects.check()
