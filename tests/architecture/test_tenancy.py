"""Who opens the whole database in `service`, and why. Everyone else acts for one tenant, and Postgres sees to it
(`kshot/storage/tenancy.py`)."""

import ast
from pathlib import Path

SERVICE = Path(__file__).resolve().parents[2] / "service"
_WHOLE, _LIFTS = {"transaction", "single"}, {"unconfined"}
_READ_BY_ALL = "checkpoints and aliases, which belong to nobody"
_OF_ADMINISTRATORS = "what a route of administrators calls"
EXCEPTIONS = {
    "accepting._check_room": "how much of everyone waits; no row comes back",
    "committing._write": "orders of many tenants in one statement: tests/kshot/storage/test_tenancy.py",
    "database.of_tenant": "is where a transaction is confined",
    "datasets._check_name": _OF_ADMINISTRATORS,
    "datasets._recorded": _OF_ADMINISTRATORS,
    "datasets._write": _OF_ADMINISTRATORS,
    "event_stream._look": _OF_ADMINISTRATORS,
    "figures.read_figures": _OF_ADMINISTRATORS,
    "finding.find_promoted": _READ_BY_ALL,
    "keys.create_key": "a command of the operator's",
    "keys.prepare": "before the service starts",
    "promoting.answer_promotion": _OF_ADMINISTRATORS,
    "promoting.wait_until_decided": _OF_ADMINISTRATORS,
    "routes.aliases.get_one": _READ_BY_ALL,
    "routes.aliases.history": _READ_BY_ALL,
    "routes.aliases.list_names": _READ_BY_ALL,
    "routes.checkpoints._remove_weights": _OF_ADMINISTRATORS,
    "routes.checkpoints.get_one": _READ_BY_ALL,
    "routes.checkpoints.list_all": _READ_BY_ALL,
    "routes.health._database": "whether Postgres answers",
    "routes.session.sign_in": "whose key it is has just been found out",
    "routes.session.sign_out": "ends the session whose secret was sent",
    "routes.training_jobs._find": _OF_ADMINISTRATORS,
    "routes.training_jobs._steer": _OF_ADMINISTRATORS,
    "state._look": "which workers live",
    "state.checkpoint": _READ_BY_ALL,
    "waiting.pending_answer": "how much of everyone waits before; no row comes back",
}
"""Beside these, what looks keys up (`kshot/storage/lookups.py`) has a connection of its own: it is asked who the tenant
is."""


def test_only_administrators_and_these_see_more_than_one_tenant() -> None:
    found = {name for file in sorted(SERVICE.rglob("*.py")) for name in _users(file)}
    assert found == set(EXCEPTIONS)


def _users(file: Path) -> set[str]:
    """Functions, by their dotted names, that open the whole database without an administrator asking."""
    room = ".".join(file.relative_to(SERVICE).with_suffix("").parts)
    return {
        f"{room}.{function.name}"
        for function in ast.walk(ast.parse(file.read_text()))
        if isinstance(function, ast.AsyncFunctionDef) and _opens_all(function) and not _is_for_administrators(function)
    }


def _opens_all(function: ast.AsyncFunctionDef) -> bool:
    calls = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
    return any(
        (isinstance(call, ast.Attribute) and call.attr in _WHOLE) or (isinstance(call, ast.Name) and call.id in _LIFTS)
        for call in calls
    )


def _is_for_administrators(function: ast.AsyncFunctionDef) -> bool:
    return any(isinstance(arg.annotation, ast.Name) and arg.annotation.id == "AdminDep" for arg in function.args.args)
