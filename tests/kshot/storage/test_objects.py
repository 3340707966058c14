"""A blob is there whole or not at all, and only under keys the server made."""

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


@pytest.mark.parametrize(
    "key", ["../x", "states/../../x", "/etc/passwd", "states/", "states/.", "file://x", "a b/c", ""]
)
def test_path_tricks_are_no_keys(tmp_path: Path, key: str):
    with pytest.raises(ValueError, match="not an object key"):
        LocalObjects(tmp_path / "store").get(key)
