"""Looking up what a request names. Anything malformed is answered as a missing one is."""

import re
import time
from dataclasses import dataclass

from kshot.contracts.errors import NotFound
from kshot.contracts.ids import is_id
from kshot.storage.adapted_models import AdaptedModel, get_adapted_model
from kshot.storage.checkpoints import PRODUCTION, StoredCheckpoint, list_promoted
from kshot.storage.lookups import Question
from service.auth import Caller
from service.state import State

_UNKNOWN = "no such checkpoint; GET /v1/checkpoints lists them"
_FRESH_S = 1.0
_REFERENCE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}(@[a-z0-9][a-z0-9-]{0,62})?")


@dataclass(frozen=True)
class Resolved:
    """What an alias points at, as of ``at`` by the monotonic clock, within the same request."""

    name: str
    alias: str
    checkpoint: str | None
    at: float

    def tells(self, name: str, alias: str) -> bool:
        """Whether it is of this alias. A body may be long in coming, and the alias have moved meanwhile."""
        fresh = time.monotonic() - self.at <= _FRESH_S
        return (name, alias) == (self.name, self.alias) and self.checkpoint is not None and fresh


async def find_checkpoint(
    state: State, reference: str, resolved: Resolved | None = None
) -> tuple[StoredCheckpoint, str | None]:
    """The checkpoint a body or path names, and the alias used. ``resolved``: one that was looked up already, because
    it may be this one. Raises NotFound; Expired where it was deleted."""
    if is_id(reference, "ckpt"):
        return await state.checkpoint(reference), None
    if not _REFERENCE.fullmatch(reference):
        raise NotFound(_UNKNOWN, param="checkpoint")
    name, alias = parse_alias(reference)
    if resolved is not None and resolved.tells(name, alias):
        found = resolved.checkpoint
    else:
        found = (await state.database.find(Question(name=name, alias=alias))).checkpoint
    if found is None:
        raise NotFound(_UNKNOWN, param="checkpoint")
    return await state.checkpoint(found), alias


def parse_alias(reference: str) -> tuple[str, str]:
    """The name and the alias of ``name@alias``, or of ``name``, which means ``name@production``. Raises NotFound."""
    if not _REFERENCE.fullmatch(reference):
        raise NotFound("no alias of this name; GET /v1/aliases lists them")
    name, _, alias = reference.partition("@")
    return name, alias or PRODUCTION


async def find_promoted(state: State) -> list[StoredCheckpoint]:
    """The checkpoints that `auto` chooses among."""
    async with state.database.single() as connection:
        return await list_promoted(connection)


async def find_adapted_model(state: State, caller: Caller, id: str) -> AdaptedModel:
    """The caller's adapted model. NotFound also for another tenant's; Expired."""
    if not is_id(id, "am"):
        raise NotFound("no adapted model with this id")
    async with state.database.of_tenant(caller.tenant) as connection:
        return await get_adapted_model(connection, caller.tenant, id)
