"""Fingerprints: what makes two adapted models the same, so that a request finds the one that answers it."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.storage.tables import adapted_models


def fingerprint_of(content: str, made_with: Sequence[Any], task: str, follows: str | None) -> str:
    """What makes two models the same. ``content``: digest of support, options and parent. ``made_with``: checkpoint and
    learner, or all that they are chosen among. ``follows``: the ``name@alias`` whose moves the model follows; it is
    never handed out for a request that names a checkpoint, or does not follow."""
    return hashlib.sha256(json.dumps([content, made_with, task, follows]).encode()).hexdigest()


async def renew_fingerprint(connection: AsyncConnection, model_id: str) -> None:
    """After a model's checkpoint, or what it follows, changed: the fingerprint of what it is now, so that an equal
    request finds it; none where another model has that one already."""
    row = (await connection.execute(select(adapted_models).where(adapted_models.c.id == model_id))).one()
    fingerprint = None
    if row.content_sha256 is not None:
        follows = f"{row.checkpoint_name}@{row.alias}" if row.follow else None
        fingerprint = fingerprint_of(row.content_sha256, [row.checkpoint_id, row.learner], row.task, follows)
    change = update(adapted_models).where(adapted_models.c.id == model_id)
    try:
        async with connection.begin_nested():
            await connection.execute(change.values(fingerprint=fingerprint))
    except IntegrityError:
        await connection.execute(change.values(fingerprint=None))
