"""The OpenAPI document, fuzzed: no server error, no undocumented status, media type or body, for either role.

The long form, on a service with something of everything in it: `python -m tests.fuzzing routes`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.http_stack import ADMIN_KEY, HttpStack
from tests.flow.stacks import open_http_stack
from tests.fuzzing.routes import ask_all_routes, callers, errors_in, operations

pytestmark = pytest.mark.flow
CASES = {"admin": 10, "user": 5}


@pytest.fixture(scope="module")
def untouched(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpStack]:
    """A stack that no other test has left anything in: the same seed asks the same questions each time."""
    with open_http_stack(checkpoints, tmp_path_factory.mktemp("fuzzed")) as stack:
        yield stack


@pytest.mark.reliability("fuzzing: API fuzzing", "schemathesis")
@pytest.mark.parametrize("role", CASES)
def test_schemathesis_finds_nothing_on_any_route(role: str, untouched: HttpStack, tmp_path: Path) -> None:
    url = untouched.api.url
    (caller,) = (one for one in callers(url, ADMIN_KEY) if one.role == role)
    found = ask_all_routes(url, caller, cases=CASES[role], seed=1, folder=tmp_path)
    assert not found.failed, found.failed
    assert {name for name, _, _ in found.answers} == operations(url)
    assert {phase for _, phase, _ in found.answers} >= {"examples", "coverage", "fuzzing", "stateful"}
    assert {status for *_, status in found.answers if status >= 500} <= {503, 504}
    assert untouched.api.process.poll() is None
    assert not errors_in([untouched.api.log, untouched.folder / "worker.log"])
