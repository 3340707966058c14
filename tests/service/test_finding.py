"""An alias that was looked up with the caller's key is used for what it tells, and no longer than it holds."""

import time

import pytest

from service.finding import Resolved


@pytest.mark.parametrize(
    ("name", "alias", "checkpoint", "age_s", "tells"),
    [
        ("intents", "production", "ckpt_1", 0.0, True),
        ("intents", "trial", "ckpt_1", 0.0, False),
        ("photos", "production", "ckpt_1", 0.0, False),
        ("intents", "production", None, 0.0, False),
        ("intents", "production", "ckpt_1", 3600.0, False),
    ],
)
def test_what_was_looked_up_is_used_for_that_alone(
    name: str, alias: str, checkpoint: str | None, age_s: float, tells: bool
):
    resolved = Resolved("intents", "production", checkpoint, time.monotonic() - age_s)
    assert resolved.tells(name, alias) == tells
