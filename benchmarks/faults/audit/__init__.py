"""The auditor: compares the ledger with what database and object store hold, in statements of its own, and asks the
service again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from benchmarks.faults.audit.again import Asker
from benchmarks.faults.audit.findings import KINDS, Audit, Finding
from benchmarks.faults.audit.models import audit_models
from benchmarks.faults.audit.predictions import audit_feedback, audit_predictions
from benchmarks.faults.audit.registry import audit_aliases, audit_jobs, audit_promotions
from benchmarks.faults.audit.stored import audit_objects, audit_states, awaited_sweeps
from benchmarks.faults.audit.tenants import audit_tenants
from benchmarks.faults.audit.told import Index, read_index

__all__ = ["KINDS", "Audit", "Books", "Finding", "Index", "audit_books", "awaited_sweeps", "read_index"]


@dataclass(frozen=True)
class Books:
    """What is compared. ``url`` and ``keys`` (tenant -> API key): where to ask again; without them nothing is asked."""

    ledger: Path
    database_url: str
    objects: Path
    url: str | None = None
    keys: Mapping[str, str] | None = None


async def audit_books(books: Books, *, most_predictions: int, seed: int) -> tuple[Index, Audit]:
    """Everything, when all is quiet. ``most_predictions``: how many are asked again."""
    index, audit = read_index(books.ledger), Audit()
    connection = await asyncpg.connect(books.database_url)
    try:
        await audit_models(connection, index, audit)
        await audit_predictions(connection, index, audit)
        await audit_feedback(connection, index, audit)
        await audit_jobs(connection, index, audit)
        await audit_aliases(connection, index, audit)
        await audit_promotions(connection, index, audit)
        await audit_states(connection, books.objects, audit)
        await audit_objects(connection, books.objects, audit)
    finally:
        await connection.close()
    audit_tenants(books.ledger, index, audit)
    _audit_parts(index, audit)
    if books.url is not None and books.keys is not None:
        await Asker(books.url, books.keys, index, audit).ask_all(most_predictions, seed)
    return index, audit


def _audit_parts(index: Index, audit: Audit) -> None:
    """Nothing ended that nobody killed, but for an API that found no Postgres when it started."""
    for ended in index.ended:
        if "the database is away" in ended.words:
            audit.noted["starts of the API that ended because Postgres was away"] += 1
        else:
            audit.find("died", f"{ended.target} ended by itself at {ended.at:.1f} s: {ended.words}")
