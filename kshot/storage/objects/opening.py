"""From the setting ``KSHOT_OBJECTS`` to a store."""

import re
from dataclasses import dataclass
from pathlib import Path

from kshot.storage.objects.local import LocalObjects
from kshot.storage.objects.store import ObjectStore

CACHE_BYTES = 8 << 30
_S3 = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")


@dataclass(frozen=True)
class Bucket:
    """A bucket that speaks S3, and what our keys begin with in it; ``prefix`` may be empty."""

    name: str
    prefix: str


def read_address(address: str) -> Path | Bucket:
    """A folder, or the bucket of ``s3://bucket/prefix``. Raises ValueError where it is neither."""
    if "://" not in address:
        return Path(address)
    found = _S3.fullmatch(address)
    prefix = (found["prefix"] or "").strip("/") if found else ""
    if found is None or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
        raise ValueError("objects lie in a folder or in s3://bucket/prefix; give one of these as KSHOT_OBJECTS")
    return Bucket(found["bucket"], prefix)


def open_objects(address: str, cache: Path, cache_bytes: int = CACHE_BYTES) -> ObjectStore:
    """The store at an address. Nothing is asked of a bucket yet: it may be away for now.

    ``cache``: folder for local copies of what lies in a bucket, at most ``cache_bytes``; processes of one machine may
    share it. Raises OSError where a folder cannot be used; RuntimeError where a library is missing.
    """
    place = read_address(address)
    if isinstance(place, Path):
        return LocalObjects(place)
    try:
        from kshot.storage.objects.s3 import S3Objects
    except ModuleNotFoundError as error:
        raise RuntimeError("KSHOT_OBJECTS names a bucket: pip install 'kshot[s3]' first") from error
    return S3Objects(place.name, place.prefix, cache, cache_bytes)
