"""A blob is there whole or not at all, and only under keys the server made."""

import os
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
