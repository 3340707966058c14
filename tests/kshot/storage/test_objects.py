"""A blob is there whole or not at all, and only under keys the server made: below a folder as in a bucket."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kshot.contracts.errors import NotFound
from kshot.storage.objects import Bucket, LocalObjects, ObjectStore, open_objects, read_address
from tests.buckets import BucketServer, bucket_server

LARGE = os.urandom(17 << 20)
"""More than one part of an upload."""


@pytest.fixture(scope="module")
def bucket() -> Iterator[BucketServer]:
    with bucket_server() as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
def objects(
    request: pytest.FixtureRequest, bucket: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ObjectStore:
    """Empty."""
    if request.param == "folder":
        return open_objects(str(tmp_path / "objects"), tmp_path / "cache")
    for name, value in bucket.environ.items():
        monkeypatch.setenv(name, value)
    return open_objects(f"s3://{bucket.bucket}/{tmp_path.name}", tmp_path / "cache")


def test_put_get_delete(objects: ObjectStore):
    objects.put("states/a.safetensors", b"one")
    objects.put("states/a.safetensors", b"two")
    assert objects.get("states/a.safetensors") == b"two"
    objects.delete("states/a.safetensors")
    objects.delete("states/a.safetensors")
    with pytest.raises(NotFound):
        objects.get("states/a.safetensors")


def test_large_and_empty_blobs(objects: ObjectStore):
    objects.put("states/large", LARGE)
    objects.put("states/empty", b"")
    assert objects.get("states/large") == LARGE and objects.get("states/empty") == b""


@pytest.mark.reliability("bad input: path tricks", "stored names")
@pytest.mark.parametrize(
    "key", ["../x", "states/../../x", "/etc/passwd", "states/", "states/.", "file://x", "a b/c", ""]
)
def test_path_tricks_are_no_keys(objects: ObjectStore, key: str):
    with pytest.raises(ValueError, match="not an object key"):
        objects.get(key)
    with pytest.raises(ValueError, match="not an object key"):
        objects.put(key, b"")


def test_a_staged_file_becomes_a_blob(objects: ObjectStore):
    staged = objects.staging() / "upload"
    staged.write_bytes(LARGE)
    objects.adopt("datasets/a.zip", staged)
    assert not staged.exists() and objects.get("datasets/a.zip") == LARGE
    with objects.file("datasets/a.zip") as file:
        assert file.read_bytes() == LARGE
    objects.delete("datasets/a.zip")
    with pytest.raises(NotFound), objects.file("datasets/a.zip"):
        pass


def test_a_file_is_the_blob_as_it_is_now(objects: ObjectStore):
    """The copy of a job's data may be made anew under the same key."""
    for blob in (b"first", b"second", b"second"):
        objects.put("jobs/a/data", blob)
        with objects.file("jobs/a/data") as file:
            assert file.read_bytes() == blob


def test_keys_are_those_below_a_folder(objects: ObjectStore):
    for key in ("jobs/a/2", "jobs/a/1", "jobs/ab/1", "states/a"):
        objects.put(key, b"")
    assert objects.keys("jobs/a") == ["jobs/a/1", "jobs/a/2"]
    assert objects.keys("jobs") == ["jobs/a/1", "jobs/a/2", "jobs/ab/1"]
    assert objects.keys("none") == []


def test_a_store_that_is_there_answers_and_a_sweep_takes_no_blob(objects: ObjectStore):
    objects.check()
    objects.put("states/a", b"one")
    objects.sweep()
    assert objects.get("states/a") == b"one"


def test_addresses():
    assert read_address("/data/objects") == Path("/data/objects")
    assert read_address("s3://kshot") == Bucket("kshot", "")
    assert read_address("s3://kshot/a/b/") == Bucket("kshot", "a/b")
    for wrong in ("s3://", "s3:///a", "s3://Kshot", "s3://kshot/a/../b", "gs://kshot", "https://kshot"):
        with pytest.raises(ValueError, match="s3://bucket/prefix"):
            read_address(wrong)


def test_what_is_no_bucket_opens_a_folder(tmp_path: Path):
    assert isinstance(open_objects(str(tmp_path / "objects"), tmp_path / "cache"), LocalObjects)
    assert not (tmp_path / "cache").exists()
