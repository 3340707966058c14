"""The OpenAPI document, fuzzed: no server error, no undocumented status, media type or body."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.http_stack import ADMIN_KEY, HttpStack
from tests.flow.stacks import open_http_stack

pytestmark = pytest.mark.flow


@pytest.fixture
def untouched(checkpoints: Path, tmp_path: Path) -> Iterator[HttpStack]:
    """A stack that no other test has left anything in: the same seed asks the same questions each time."""
    with open_http_stack(checkpoints, tmp_path) as stack:
        yield stack


@pytest.mark.reliability("fuzzing: API fuzzing", "schemathesis")
def test_schemathesis_finds_nothing(untouched: HttpStack, tmp_path: Path) -> None:
    """One check is left out: a body of the right form may still make no sense (422), which a schema cannot say."""
    config = tmp_path / "schemathesis.toml"
    config.write_text("")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config), "run",
            f"{untouched.api.url}/openapi.json", "--checks", "all", "--exclude-checks", "positive_data_acceptance",
            "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "20", "--seed", "1",
            "--header", f"Authorization: Bearer {ADMIN_KEY}", "--exclude-path-regex", "api-keys", "--no-color",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
