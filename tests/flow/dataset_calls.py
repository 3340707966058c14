"""Uploading data sets as callers do."""

import json
from pathlib import Path
from typing import Any

import httpx

from kshot.contracts.ids import new_id
from tests.flow.conftest import HttpStack


def a_name() -> str:
    """A name no other test uses."""
    return new_id("ds").lower().replace("_", "-")


def upload(
    client: httpx.Client, data: bytes, filename: str = "", headers: Any = None, **request: Any
) -> httpx.Response:  # fmt: skip
    """As `curl -F request=... -F file=@...` sends it."""
    body = {"name": a_name(), **request}
    files: dict[str, Any] = {"file": (filename, data)}
    if "splits" in body:
        files["splits"] = ("splits.json", json.dumps(body.pop("splits")))
    return client.post("/v1/datasets", data={"request": json.dumps(body)}, files=files, headers=headers)


def form(data: bytes) -> bytes:
    """A whole multipart body with boundary B."""
    request = json.dumps({"name": a_name()}).encode()
    return (
        b'--B\r\nContent-Disposition: form-data; name="request"\r\n\r\n' + request
        + b'\r\n--B\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n\r\n' + data + b"\r\n--B--\r\n"
    )  # fmt: skip


def staging(stack: HttpStack) -> list[str]:
    """What lies in the staging folder."""
    folder = Path(stack.environ["KSHOT_OBJECTS"]) / ".staging"
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []
