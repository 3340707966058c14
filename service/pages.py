"""Lists in pages, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Query

from kshot.contracts.access_bodies import AuditEntry, Tenant
from kshot.contracts.api import AdaptedModel, ApiKey, Page
from kshot.contracts.dataset_bodies import Dataset
from kshot.contracts.flywheel_bodies import Revision
from kshot.contracts.job_bodies import TrainingEvent, TrainingJob
from kshot.contracts.registry_bodies import Alias, AliasChange, Checkpoint, Promotion

_CURSOR = r"^[a-z]{2,4}_[0-9A-Z]{26}$"
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
"""As `contracts.checkpoints.Name`: of a filter, which the database is to understand."""
DATASET_ID = r"^ds_[0-9A-Z]{26}$"


@dataclass(frozen=True)
class Cursor:
    """Which page a caller asks for."""

    limit: int
    after: str | None


async def get_cursor(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(pattern=_CURSOR, description="`last_id` of the page before")] = None,
) -> Cursor:
    """The page of the query parameters."""
    return Cursor(limit, after)


CursorDep = Annotated[Cursor, Depends(get_cursor)]
_Listed = (
    AuditEntry
    | Tenant
    | AdaptedModel
    | Alias
    | AliasChange
    | ApiKey
    | Checkpoint
    | Dataset
    | Promotion
    | Revision
    | TrainingJob
    | TrainingEvent
)
Item = TypeVar("Item", bound=_Listed)


def page_of(items: Sequence[Item], limit: int) -> Page[Item]:
    """A page from up to ``limit + 1`` items: the one too many says that there is more."""
    shown = list(items[:limit])
    ids = [_id(item) for item in shown]
    return Page(
        data=shown, has_more=len(items) > limit, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None
    )


def _id(item: _Listed) -> str:
    """What a page calls an item: of an alias its name, of an event its number."""
    if isinstance(item, TrainingEvent | AuditEntry):
        return str(item.seq if isinstance(item, TrainingEvent) else item.id)
    return f"{item.name}@{item.alias}" if isinstance(item, Alias | AliasChange) else item.id
