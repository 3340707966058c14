"""The object store: immutable blobs under keys the server makes, below a local folder or in an S3 bucket.

`open_objects` reads where they lie from the setting ``KSHOT_OBJECTS``; everybody else sees an `ObjectStore`.
"""

from kshot.storage.objects.keys import sha256, state_key, state_keys
from kshot.storage.objects.local import LocalObjects
from kshot.storage.objects.opening import CACHE_BYTES, Bucket, open_objects, read_address
from kshot.storage.objects.store import ObjectStore

__all__ = [
    "CACHE_BYTES",
    "Bucket",
    "LocalObjects",
    "ObjectStore",
    "open_objects",
    "read_address",
    "sha256",
    "state_key",
    "state_keys",
]
