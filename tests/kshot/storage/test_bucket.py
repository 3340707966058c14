"""What a bucket has and a folder has not: copies on this machine, a network, uploads in parts."""

import multiprocessing
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import pytest

from kshot.contracts.errors import NotFound
from kshot.storage.objects import ObjectStore, open_objects
from kshot.storage.objects.cache import BlobCache
from tests.buckets import BucketServer, bucket_server

BLOB = bytes(1000)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    with bucket_server() as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        yield server


def copies(cache: Path) -> list[int]:
    """How large they are."""
    return [file.stat().st_size for file in (cache / "copies").iterdir()]


def read(objects: ObjectStore, key: str) -> bytes:
    with objects.file(key) as file:
        return file.read_bytes()


def test_copies_are_bounded_and_shared_and_none_in_use_goes(bucket: BucketServer, tmp_path: Path):
    one = open_objects(bucket.address, tmp_path, 2500)
    other = open_objects(bucket.address, tmp_path, 2500)  # as another process has it
    for i in range(4):
        one.put(f"datasets/{i}", bytes([i]) * 1000)
    with one.file("datasets/0") as used:
        for i in (1, 2, 3):
            assert read(other, f"datasets/{i}") == bytes([i]) * 1000
        assert used.read_bytes() == bytes(1000)
        assert sum(copies(tmp_path)) <= 2500 and len(copies(tmp_path)) == 2
    inode = used.stat().st_ino
    with other.file("datasets/0") as again:
        assert again == used and again.stat().st_ino == inode, "brought once"
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_blob_larger_than_the_bound_is_there_while_it_is_used(bucket: BucketServer, tmp_path: Path):
    objects = open_objects(bucket.address, tmp_path, 10)
    objects.put("datasets/large", BLOB)
    with objects.file("datasets/large") as file:
        assert file.read_bytes() == BLOB
    assert copies(tmp_path) == []


def _hold(folder: Path, held: "multiprocessing.synchronize.Event", end: "multiprocessing.synchronize.Event") -> None:
    with BlobCache(folder, 1).hold("key"):
        held.set()
        end.wait(60)


def test_another_process_keeps_a_copy_from_going(tmp_path: Path):
    cache, start = BlobCache(tmp_path, 1 << 20), multiprocessing.get_context("spawn")
    written = cache.staging / "new"
    written.write_bytes(BLOB)
    with cache.add("key", '"1"', written):
        pass
    held, end = start.Event(), start.Event()
    user = start.Process(target=_hold, args=(tmp_path, held, end))
    user.start()
    try:
        assert held.wait(60)
        BlobCache(tmp_path, 1).make_room(0)
        assert copies(tmp_path) == [1000]
    finally:
        end.set()
        user.join()
    BlobCache(tmp_path, 1).make_room(0)
    assert copies(tmp_path) == []


def test_a_copy_that_a_process_holds_is_of_the_version_asked_for(tmp_path: Path):
    cache = BlobCache(tmp_path, 1 << 20)
    for version in ('"v.1"', '"v.2"'):
        written = cache.staging / "new"
        written.write_bytes(version.encode())
        with cache.add("key", version, written):
            pass
    with cache.hold("key") as copy, cache.hold("other") as none:
        assert copy is not None and copy.version.encode() == copy.path.read_bytes() and none is None


def test_a_bucket_that_is_away_is_like_a_disk_that_is_away(bucket: BucketServer, tmp_path: Path):
    objects = open_objects(bucket.address, tmp_path)
    objects.put("states/a", BLOB)
    bucket.stop()
    staged = objects.staging() / "upload"
    staged.write_bytes(BLOB)
    for call in (
        lambda: objects.put("states/b", BLOB),
        lambda: objects.get("states/a"),
        lambda: objects.adopt("states/b", staged),
        lambda: read(objects, "states/a"),
        lambda: objects.delete("states/a"),
        lambda: objects.keys("states"),
        lambda: objects.check(),
    ):
        with pytest.raises(OSError, match="the object store is away"):
            call()
    assert staged.exists(), "what was not taken stays with whoever sent it"
    bucket.start()
    assert objects.get("states/a") == BLOB


def test_a_bucket_that_is_not_there_is_no_missing_blob(bucket: BucketServer, tmp_path: Path):
    """Who hears NotFound begins anew: a job would throw its progress away."""
    objects = open_objects("s3://no-such-bucket/x", tmp_path)
    for call in (lambda: objects.get("states/a"), lambda: read(objects, "states/a"), lambda: objects.check()):
        with pytest.raises(OSError, match="NoSuchBucket"):
            call()
    with pytest.raises(NotFound):
        open_objects(bucket.address, tmp_path).get("states/a")


def test_wrong_settings_are_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "of-nobody")
    with pytest.raises(RuntimeError, match="of-nobody"):
        open_objects("s3://bucket", tmp_path)


def test_an_answer_that_breaks_off_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A server that hangs up in the middle of a blob, twice."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.getsockname()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        answers = multiprocessing.get_context("spawn").Process(target=_break_off, args=(server, 2))
        answers.start()
        try:
            assert open_objects("s3://bucket", tmp_path).get("states/a") == BLOB
        finally:
            answers.terminate()
            answers.join()


def _break_off(server: socket.socket, times: int) -> None:
    for turn in range(times + 1):
        connection, _ = server.accept()
        with connection:
            connection.recv(1 << 16)
            head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(BLOB)}\r\nETag: "1"\r\nConnection: close\r\n\r\n'
            connection.sendall(head.encode() + (BLOB if turn == times else BLOB[:10]))


def test_uploads_in_parts_that_nobody_ends_go_after_a_day(bucket: BucketServer, tmp_path: Path, monkeypatch):
    """This server says that each of them began in 2010."""
    objects, client = open_objects(bucket.address, tmp_path), boto3.client("s3")
    for key in ("some/where/states/left", "not/ours"):
        client.create_multipart_upload(Bucket=bucket.bucket, Key=key)
    with monkeypatch.context() as patience:
        patience.setattr("kshot.storage.objects.s3._ABANDONED", timedelta(days=365 * 1000))
        objects.sweep()
    assert len(client.list_multipart_uploads(Bucket=bucket.bucket)["Uploads"]) == 2, "they may still come"
    objects.sweep()
    left = client.list_multipart_uploads(Bucket=bucket.bucket)["Uploads"]
    assert [upload["Key"] for upload in left] == ["not/ours"]
