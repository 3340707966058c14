"""Where an alias goes back to."""

from datetime import UTC, datetime

import pytest

from kshot.storage.aliases import AliasChange, Reason
from kshot.storage.retention import rollback_target


def changes(*moves: tuple[str, Reason]) -> list[AliasChange]:
    """A history, newest first, from moves, oldest first."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [AliasChange(i + 1, to, at, reason, None, None) for i, (to, reason) in enumerate(moves)][::-1]


@pytest.mark.parametrize(
    ("moves", "target"),
    [
        ([("a", "publish")], None),
        ([("a", "publish"), ("b", "promote")], "a"),
        ([("a", "publish"), ("b", "promote"), ("a", "rollback")], None),
        ([("a", "publish"), ("b", "promote"), ("c", "force"), ("b", "rollback")], "a"),
        ([("a", "publish"), ("b", "promote"), ("a", "rollback"), ("c", "promote")], "a"),
        ([("a", "publish"), ("b", "promote"), ("a", "rollback"), ("b", "rollback")], "a"),
        ([("a", "publish"), ("b", "promote"), ("a", "force")], "b"),
    ],
)
def test_rolling_back_goes_back_and_never_forth(moves: list[tuple[str, Reason]], target: str | None):
    found = rollback_target(changes(*moves))
    assert (found.checkpoint if found else None) == target
