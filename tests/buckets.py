"""A bucket on loopback: moto's server, which speaks S3, in a thread of the test's process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import boto3
from moto.server import ThreadedMotoServer


@dataclass
class BucketServer:
    """What it holds outlives ``stop``, as a server's disk does."""

    port: int = 0
    bucket: str = field(default_factory=lambda: f"kshot-{uuid4().hex}")
    _server: ThreadedMotoServer | None = None

    def start(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}/some/where"

    @property
    def environ(self) -> dict[str, str]:
        """What boto3 reads everywhere."""
        return {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def bucket_server() -> Iterator[BucketServer]:
    """Running, with its bucket made."""
    server = BucketServer()
    server.start()
    try:
        own = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        client = boto3.session.Session(**own).client("s3", endpoint_url=server.environ["AWS_ENDPOINT_URL_S3"])
        client.create_bucket(Bucket=server.bucket)
        client.close()
        yield server
    finally:
        server.stop()
