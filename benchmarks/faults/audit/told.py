"""The ledger, read once and sorted by what it speaks of."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.ledger import Ended, Happened, Told, read

CRASHES = ("Postgres killed", "Postgres's process of a connection killed")


@dataclass
class Index:
    """Everything that callers were told.

    ``models``: id -> tenant, of each adapted model that a tenant was told is its own; ``bodies``: id -> the bodies in
    which it had succeeded. ``orders``: number -> what was asked for, and the ids told for it. ``deleted``: confirmed;
    ``asked_to_delete``: sent, whatever came of it.
    """

    models: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    orders: dict[int, tuple[dict[str, Any], set[str]]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    asked_to_delete: set[str] = field(default_factory=set)
    gone: list[Told] = field(default_factory=list)
    predictions: list[Told] = field(default_factory=list)
    feedback: list[Told] = field(default_factory=list)
    pried: list[Told] = field(default_factory=list)
    jobs: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    job_bodies: list[Told] = field(default_factory=list)
    cancelled_jobs: set[str] = field(default_factory=set)
    aliases: list[Told] = field(default_factory=list)
    promotions: set[str] = field(default_factory=set)
    tenants: set[str] = field(default_factory=set)
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[Happened] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def crashes(self) -> list[Happened]:
        """When Postgres ended without a chance to write down what it knew."""
        return [fault for fault in self.faults if fault.kind in CRASHES]


def read_index(path: Path) -> Index:
    """Read a ledger."""
    index = Index()
    for entry in read(path):
        if isinstance(entry, Happened):
            index.faults.append(entry)
        elif isinstance(entry, Ended):
            index.ended.append(entry)
        else:
            _add(index, entry)
    return index


def _add(index: Index, told: Told) -> None:
    index.statuses[told.act, str(told.status or "no answer")] += 1
    index.seconds = max(index.seconds, told.at)
    if told.act == "pry":
        index.pried.append(told)
        return
    index.tenants.add(told.tenant)
    if told.act == "delete":
        index.asked_to_delete.add(told.about["model"])
    if told.act == "get" and told.about["model"] in index.deleted:
        index.gone.append(told)
    elif told.act in ("adapt", "get") and told.is_accepted:
        _add_model(index, told)
    elif told.is_accepted:
        _add_other(index, told)


def _add_model(index: Index, told: Told) -> None:
    body = told.json()
    index.models.setdefault(body["id"], told.tenant)
    if body["status"] == "succeeded":
        index.bodies[body["id"]].append(told)
    if told.act == "adapt":
        order = told.about["order"]
        index.orders.setdefault(order["number"], (order, set()))[1].add(body["id"])


def _add_other(index: Index, told: Told) -> None:
    match told.act:
        case "predict":
            index.predictions.append(told)
        case "feedback":
            index.feedback.append(told)
        case "delete":
            index.deleted.add(told.about["model"])
        case "job":
            index.jobs[told.about["number"]].add(told.json()["id"])
        case "job-get":
            index.job_bodies.append(told)
        case "job-cancel":
            index.cancelled_jobs.add(told.about["job"])
        case "alias" | "promotion":
            _add_promotion(index, told)


def _add_promotion(index: Index, told: Told) -> None:
    body = json.loads(told.body)
    if body["object"] == "promotion":
        index.promotions.add(body["id"])
    else:
        index.aliases.append(told)
