"""The chaos run in its short form: every kind of fault, and nothing lost. Then somebody tampers with these books, and
the auditor finds it."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from benchmarks.faults import without
from benchmarks.faults.audit import Audit, Books, audit_books
from benchmarks.faults.audit.again import alike
from benchmarks.faults.ledger import Happened, Ledger, Told
from benchmarks.faults.ledger import read as read_ledger
from benchmarks.faults.page import read, run_of, write
from benchmarks.faults.running import Day, Spent, spend
from benchmarks.faults.schedule import KINDS, draw
from tests.flow.chaos_stack import whole_service
from workers.leases import Leases

pytestmark = pytest.mark.flow
SEED, SECONDS, EVERY, LONGEST = 2, 14.0, 0.95, 4.0


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spent]:
    """A short day. Afterwards there are servers and API still, and nobody to mend anything."""
    folder = tmp_path_factory.mktemp("chaos")
    day = Day(draw(SEED, SECONDS, EVERY, LONGEST), SECONDS, SEED, callers=2, steps=40, until_swept=False)
    with whole_service(folder) as service:
        over = asyncio.run(spend(day, service, Ledger(folder / "ledger.jsonl")))
        for part in (*service.workers, service.parts["trainer"]):
            part.kill()
        yield over


def test_a_day_with_every_kind_of_fault_loses_doubles_and_mixes_nothing(spent: Spent, tmp_path: Path) -> None:
    assert not spent.audit.findings, "\n".join(finding.evidence for finding in spent.audit.findings)
    happened = Counter(fault.kind for fault in spent.index.faults)
    assert set(KINDS) - set(happened) <= {"training killed"}, "of which there may have been none to kill"
    assert len(spent.index.models) > 10 and spent.index.predictions
    assert spent.audit.checked["bodies of adapted models read again"] and spent.audit.checked["states"]
    figures: dict[str, Any] = {"seconds": SECONDS, "seed": SEED, "workers": 2, "callers": 7}
    runs = [run_of(spent.index, spent.audit, without=left_out, **figures) for left_out in (None, "fence")]
    write(tmp_path, runs)
    assert read(tmp_path) == runs
    page = (tmp_path / "faults.md").read_text()
    assert "lost / doubled / mixed / contradicted / left over / died = 0 / 0 / 0 / 0 / 0 / 0" in page
    assert "without the fence" in page


@dataclass(frozen=True)
class Tampered:
    """What was done to whom, and what the auditor found then. ``models``: five, in the order of `_TAMPERING`."""

    models: list[str]
    record: str
    excused: str
    audit: Audit

    def found(self, kind: str, about: str) -> bool:
        """Whether there is a finding of this kind that speaks of this."""
        return any(finding.kind == kind and about in finding.evidence for finding in self.audit.findings)


_COPY = "INSERT INTO {0} SELECT (jsonb_populate_record(t, {1})).* FROM {0} t WHERE {2} = $1"
_OF_IT = "WHERE task_id = (SELECT task_id FROM adapted_models WHERE id = $1)"
_TAMPERING = [
    [f"DELETE FROM results {_OF_IT}"],
    [
        _COPY.format("adapted_models", """'{"id": "am_copy", "fingerprint": null}'""", "id"),
        _COPY.format("tasks", """'{"id": "task_copy", "adapted_model_id": "am_copy"}'""", "adapted_model_id"),
    ],
    ["UPDATE adapted_models SET tenant_id = (SELECT min(id) FROM tenants WHERE id <> tenant_id) WHERE id = $1"],
    [f"""UPDATE results SET timings = timings || '{{"queue_ms": 0.125}}' {_OF_IT}"""],
    [f"UPDATE results SET state = '\\x00', object_key = NULL {_OF_IT}"],
]
"""Of a model each: its result lost, all of it copied, given to another tenant, its answer changed, its state torn."""


@pytest.fixture(scope="module")
def tampered(spent: Spent, tmp_path_factory: pytest.TempPathFactory) -> Tampered:
    alive = [model for model in spent.index.bodies if model not in spent.index.asked_to_delete]
    models = sorted(alive)[: len(_TAMPERING)]
    record, excused = [told.json()["id"] for told in spent.index.predictions[:2]]
    books = replace(spent.books, ledger=tmp_path_factory.mktemp("tampered") / "ledger.jsonl")
    _forge(books, spent, record, excused, models[0])
    (books.objects / "states").mkdir(exist_ok=True)
    (books.objects / "states" / "task_nobodys-1.safetensors").write_bytes(b"nobody's")

    async def tamper() -> Audit:
        connection = await asyncpg.connect(books.database_url)
        for model, statements in zip(models, _TAMPERING, strict=True):
            for statement in statements:
                assert (await connection.execute(statement, model)).split()[-1] == "1", statement
        await connection.execute("DELETE FROM predictions WHERE id = ANY ($1)", [record, excused])
        await connection.close()
        return (await audit_books(books, most_predictions=0, seed=SEED))[1]

    return Tampered(models, record, excused, asyncio.run(tamper()))


def _forge(books: Books, spent: Spent, record: str, excused: str, model: str) -> None:
    """The ledger without its faults, but with one crash of Postgres just after ``excused`` was answered, which is long
    after ``record`` was; and with an answer to one tenant that holds what is another's."""
    ledger = Ledger(books.ledger)
    for entry in read_ledger(spent.books.ledger):
        if not isinstance(entry, Told):
            continue
        answered = entry.json()["id"] if entry.act == "predict" and entry.is_accepted else None
        ledger.note(replace(entry, sent=-100.0, at=-99.0) if answered == record else entry)
        if answered == excused:
            ledger.note(Happened("Postgres killed", "postgres", entry.at, entry.at))
    owner = spent.index.models[model]
    other = next(tenant for tenant in spent.index.tenants if tenant not in (owner, "admin"))
    body = f'{{"metadata":{{"owner":"{owner}"}}}}'
    ledger.note(Told(f"{other}-0", other, "look", {"model": model}, 0.0, 0.0, 200, body))
    ledger.close()


def test_losses_are_found(tampered: Tampered) -> None:
    result, _, _, _, state = tampered.models
    assert tampered.found("lost", f"{result} (task") and tampered.found("lost", tampered.record)
    assert tampered.found("lost", "is not what was stored") and not tampered.found("lost", state)


def test_a_record_that_a_crash_of_postgres_may_cost_is_no_loss_but_counted(tampered: Tampered) -> None:
    assert not tampered.found("lost", tampered.excused)
    assert tampered.audit.noted["predictions answered in the moment of a crash of Postgres, and not recorded"] >= 1


def test_doubles_are_found(tampered: Tampered) -> None:
    assert tampered.found("doubled", tampered.models[1]) and tampered.found("doubled", "am_copy")


def test_what_is_mixed_is_found(tampered: Tampered) -> None:
    assert tampered.found("mixed", tampered.models[2])
    assert tampered.found("mixed", "was told what is"), "an answer to one tenant with what is another's"


def test_what_was_told_and_is_no_longer_so_is_found(tampered: Tampered) -> None:
    assert tampered.found("contradicted", f"timings of {tampered.models[3]}")


def test_what_is_left_over_is_found(tampered: Tampered) -> None:
    assert tampered.found("left over", "task_nobodys-1")


def test_a_schedule_has_every_kind_of_fault_before_any_comes_again_and_a_seed_gives_it_again() -> None:
    faults = draw(7, 600, 4)
    first = [fault.kind for fault in faults[: len(KINDS)]]
    assert set(first) == set(KINDS) and faults == draw(7, 600, 4) != draw(8, 600, 4)
    assert all(fault.at + fault.hold <= 600 for fault in faults)


def test_answers_are_alike_up_to_their_last_digits() -> None:
    before = [{"label": "a", "probabilities": {"a": 0.75, "b": 0.25}}]
    assert alike(before, [{"label": "a", "probabilities": {"a": 0.750001, "b": 0.249999}}])
    assert not alike(before, [{"label": "b", "probabilities": {"a": 0.75, "b": 0.25}}])
    assert not alike(before, [{"label": "a", "probabilities": {"a": 0.76, "b": 0.24}}])
    assert not alike(before, [])


def test_a_control_leaves_its_safeguard_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would show nothing: the statement that it changes may have been changed itself."""
    before = without.completing._COMPLETE
    monkeypatch.setattr(without.completing, "_COMPLETE", before)
    monkeypatch.setattr(Leases, "renew", Leases.renew)
    without.without_fence()
    after = without.completing._COMPLETE
    assert "tasks.attempt" in before and "tasks.attempt" not in after and "DO UPDATE" in after
