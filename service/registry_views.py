"""Stored aliases' histories and promotions as the API shows them."""

from kshot.contracts.registry_bodies import AliasChange, Promotion
from kshot.storage import aliases, promotions
from service.auth import Caller


def alias_change(name: str, alias: str, row: aliases.AliasChange, caller: Caller) -> AliasChange:
    """An entry of an alias's history; who asked is for administrators."""
    return AliasChange(
        name=name,
        alias=alias,
        version=row.version,
        checkpoint=row.checkpoint,
        at=row.at,
        reason=row.reason,
        promotion=row.promotion,
        key=row.key if caller.role == "admin" else None,
    )


def promotion(row: promotions.Promotion) -> Promotion:
    """A promotion as its row tells it."""
    return Promotion(
        id=row.id,
        name=row.name,
        alias=row.alias,
        challenger=row.challenger,
        incumbent=row.incumbent,
        dataset=row.dataset,
        status=row.status,
        comparison=row.comparison,
        error=row.failure,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
