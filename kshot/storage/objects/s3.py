"""The object store in a bucket that speaks S3: Amazon's, or MinIO's and its like (``AWS_ENDPOINT_URL_S3``).

boto3 finds credentials, region and endpoint as it does everywhere: environment, profile, the machine's or pod's role.
S3 shows a blob only once all of it is there, so a reader sees the whole or nothing, as with a renamed file.
"""

import errno
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar
from uuid import uuid4

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from kshot.contracts.errors import NotFound
from kshot.storage.objects.cache import BlobCache
from kshot.storage.objects.keys import checked

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import GetObjectOutputTypeDef

T = TypeVar("T")
_PART = 16 << 20
_PIECE = 1 << 20
_READS = 3
_ABANDONED = timedelta(days=1)
"""Of an upload in parts: S3 knows when it began, not when its last part came."""
_CLIENT = Config(
    connect_timeout=3,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=40,  # as many threads as may call at once
    tcp_keepalive=True,
)
_PARTS = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=4)


class S3Objects:
    """Blobs as objects ``prefix/key`` of one bucket; local copies of those read as files lie in ``cache``."""

    def __init__(self, bucket: str, prefix: str, cache: Path, cache_bytes: int) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._cache = BlobCache(cache, cache_bytes)
        try:
            self._client = boto3.session.Session().client("s3", config=_CLIENT)
        except (BotoCoreError, ValueError) as error:  # no such profile, an address that is none
            raise RuntimeError(f"the object store cannot be used as AWS_... say: {error}") from error

    def put(self, key: str, blob: bytes) -> None:
        """Store a blob; large ones go in parts, which become an object when the last one is there."""
        name = self._name(key)
        with _as_of_a_disk():
            if len(blob) <= _PART:
                self._client.put_object(Bucket=self._bucket, Key=name, Body=blob)
            else:
                self._client.upload_fileobj(io.BytesIO(blob), self._bucket, name, Config=_PARTS)

    def get(self, key: str) -> bytes:
        """The blob. Raises NotFound."""
        return _again(lambda: self._read(self._name(key)))

    def staging(self) -> Path:
        """A folder for what is not uploaded yet. What writers that died leave goes an hour after its last byte."""
        return self._cache.staging

    def adopt(self, key: str, file: Path) -> None:
        """Upload a staged file, piece by piece. Afterwards it is gone from where it was."""
        with _as_of_a_disk():
            self._client.upload_file(str(file), self._bucket, self._name(key), Config=_PARTS)
        file.unlink()

    @contextmanager
    def file(self, key: str) -> Iterator[Path]:
        """A local copy of the blob as it is now, to be read and not written. Raises NotFound."""
        with ExitStack() as held:
            copy = held.enter_context(self._cache.hold(key))
            fresh = _again(lambda: self._download(self._name(key), None if copy is None else copy.version))
            if fresh is not None:
                yield held.enter_context(self._cache.add(key, *fresh))
            else:
                assert copy is not None
                yield copy.path

    def delete(self, key: str) -> None:
        """Remove the blob; it may be gone already."""
        with _as_of_a_disk():
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def keys(self, folder: str) -> list[str]:
        """The keys that begin with ``folder`` and a slash, by name."""
        pages = self._client.get_paginator("list_objects_v2")
        with _as_of_a_disk():
            found = pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{folder}/")
            return sorted(each["Key"].removeprefix(self._prefix) for page in found for each in page.get("Contents", []))

    def sweep(self) -> None:
        """Remove what writers that died left half-written: here an hour ago, in the bucket a day ago."""
        self._cache.sweep()
        before = datetime.now(UTC) - _ABANDONED
        pages = self._client.get_paginator("list_multipart_uploads")
        with _as_of_a_disk():
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for each in page.get("Uploads", []):
                    if each["Initiated"] < before:
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=each["Key"], UploadId=each["UploadId"]
                        )

    def check(self) -> None:
        """Raises OSError where the bucket cannot be reached, or may not be listed."""
        with _as_of_a_disk():
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)

    def _name(self, key: str) -> str:
        return self._prefix + checked(key)

    def _read(self, name: str) -> bytes:
        with _as_of_a_disk():
            answer = self._client.get_object(Bucket=self._bucket, Key=name)
        with _breaks_off():
            return answer["Body"].read()

    def _download(self, name: str, known: str | None) -> tuple[str, Path] | None:
        """Version and staged file of what lies there; None where it is the version known already."""
        answer = self._unless(name, known)
        if answer is None:
            return None
        self._cache.make_room(answer["ContentLength"])
        staged = self._cache.staging / f"download-{uuid4().hex}"
        try:
            with staged.open("xb") as file:
                _copy(answer, file)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        return answer["ETag"], staged

    def _unless(self, name: str, known: str | None) -> "GetObjectOutputTypeDef | None":
        with _as_of_a_disk():
            if known is None:
                return self._client.get_object(Bucket=self._bucket, Key=name)
            try:
                return self._client.get_object(Bucket=self._bucket, Key=name, IfNoneMatch=known)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 304:
                    return None
                raise


class _BrokenOff(OSError):
    """The answer began, and did not come to its end: asking again may help."""


def _copy(answer: "GetObjectOutputTypeDef", file: IO[bytes]) -> None:
    while True:
        with _breaks_off():
            piece = answer["Body"].read(_PIECE)
        if not piece:
            return
        file.write(piece)


def _again(read: Callable[[], T]) -> T:
    """boto3 itself asks again only until an answer begins."""
    for _ in range(_READS - 1):
        try:
            return read()
        except _BrokenOff:
            continue
    return read()


@contextmanager
def _breaks_off() -> Iterator[None]:
    try:
        yield
    except BotoCoreError as error:
        raise _BrokenOff(errno.EIO, f"the object store's answer broke off: {type(error).__name__}") from error


@contextmanager
def _as_of_a_disk() -> Iterator[None]:
    """A blob that is not there is NotFound; everything else that goes wrong is OSError, as of a disk that is away.

    A bucket that is not there is no missing blob: nobody must take it for one that was deleted.
    """
    try:
        yield
    except ClientError as error:
        said = error.response["Error"]
        if said.get("Code") == "NoSuchKey":
            raise NotFound("the stored object is gone") from None
        raise OSError(errno.EIO, f"the object store refuses: {said.get('Code')}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise OSError(errno.EIO, f"the object store is away: {type(error).__name__}") from error
