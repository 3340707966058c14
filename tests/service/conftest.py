"""A real Postgres, migrated, and a real Valkey, for the tests of this room."""

from collections.abc import Iterator

import pytest

from standalone import EmbeddedServers
from tests.flow.job_stack import migrated_servers


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    with migrated_servers() as running:
        yield running
