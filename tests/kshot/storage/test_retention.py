"""Nothing that an alias, a live model, an open job or an open promotion needs is removed; what nobody needs is."""

import asyncio
import random
from dataclasses import dataclass, field

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.checkpoints import EncoderSpec, LearnerSpec, VectorInput
from kshot.contracts.errors import Conflict, Expired, NotFound
from kshot.contracts.ids import new_id
from kshot.contracts.jobs import JobSpec
from kshot.contracts.recipe import Recipe, Training
from kshot.storage import retention
from kshot.storage.adapted_models import insert_adapted_model
from kshot.storage.aliases import Reason
from kshot.storage.jobs import NewJob, insert_job
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tasks import insert_task
from tests.kshot.storage.conftest import a_model, its_task
from tests.kshot.storage.registry import a_dataset, a_name, asked, execute, moved, registered

DAYS = 30
KEPT_S = DAYS * retention.DAY_S
RECIPE = Recipe(
    name="waves", description="", tasks=("regression",), n_targets=1, input=VectorInput(width=1),
    encoder=EncoderSpec(name="mlp"), learner=LearnerSpec(name="maml"), training=Training(steps=1, scheme="episodes"),
)  # fmt: skip


async def a_job(database: AsyncEngine, base: str, status: str = "queued") -> str:
    spec = JobSpec(job=new_id("job"), recipe=RECIPE, dataset=await a_dataset(database), dataset_name="x")
    async with database.begin() as connection:
        await insert_job(connection, NewJob(DEFAULT_TENANT, base, {}, spec, None))
    await execute(database, "UPDATE training_jobs SET status = :status WHERE id = :id", status=status, id=spec.job)
    return spec.job


async def adapted(database: AsyncEngine, checkpoint: str, state: str = "alive") -> str:
    """An adapted model that is alive, pinned past its time, being made, expired or deleted."""
    model = a_model(checkpoint)
    async with database.begin() as connection:
        await insert_adapted_model(connection, model)
        await insert_task(connection, its_task(model))
    if state != "being made":
        await execute(database, "UPDATE tasks SET status = 'succeeded' WHERE id = :id", id=model.task_id)
    if state in ("expired", "pinned"):
        await execute(
            database,
            "UPDATE adapted_models SET expires_at = now() - interval '2 minutes', pinned = :pinned WHERE id = :id",
            id=model.id, pinned=state == "pinned",
        )  # fmt: skip
    if state == "deleted":
        await execute(database, "UPDATE adapted_models SET deleted_at = now() WHERE id = :id", id=model.id)
    return model.id


async def age(database: AsyncEngine, checkpoint: str, days: float = DAYS + 1) -> None:
    statement = "UPDATE checkpoints SET created_at = now() - make_interval(secs => :s) WHERE id = :id"
    await execute(database, statement, s=days * retention.DAY_S, id=checkpoint)


async def age_move(database: AsyncEngine, name: str, version: int, days: float) -> None:
    statement = "UPDATE alias_history SET at = now() - make_interval(secs => :s) WHERE name = :name AND version = :v"
    await execute(database, statement, s=days * retention.DAY_S, name=name, v=version)


async def swept(database: AsyncEngine) -> set[str]:
    async with database.begin() as connection:
        return set(await retention.delete_unpromoted(connection, KEPT_S, 10_000))


async def deleted(database: AsyncEngine, checkpoint: str) -> bool:
    async with database.begin() as connection:
        return await retention.delete_checkpoint(connection, checkpoint)


@dataclass
class Population:
    """Checkpoints of one name and what is known of them: which are needed is worked out here, without SQL."""

    name: str
    made_by_jobs: set[str] = field(default_factory=set)
    old: set[str] = field(default_factory=set)
    needed: set[str] = field(default_factory=set)


async def populate(database: AsyncEngine, rng: random.Random) -> Population:
    population = Population(a_name())
    checkpoints = []
    for _ in range(rng.randint(4, 9)):
        job = "job_1" if rng.random() < 0.8 else None
        checkpoint = await registered(database, population.name, job=job)
        checkpoints.append(checkpoint)
        if job:
            population.made_by_jobs.add(checkpoint)
        if rng.random() < 0.8:
            await age(database, checkpoint)
            population.old.add(checkpoint)
    await move_about(database, rng, population, checkpoints)
    for checkpoint in checkpoints:
        await use(database, rng, population, checkpoint)
    return population


async def move_about(database: AsyncEngine, rng: random.Random, population: Population, checkpoints: list[str]) -> None:
    """The alias goes here and there, forth and back; some of that lately."""
    stack, version, pointed = list[str](), 0, ""
    moves = rng.randint(0, 6)
    lately = rng.randint(0, moves)  # this move and those after it
    for number in range(moves):
        back = len(stack) > 1 and rng.random() < 0.4
        target = stack[-2] if back else rng.choice(checkpoints)
        if target == pointed:
            continue
        reason: Reason = "rollback" if back else rng.choice(["promote", "force", "publish"])
        version = (await moved(database, population.name, target, reason)).version
        await age_move(database, population.name, version, 5 if number >= lately else DAYS + 5)
        if number >= lately and pointed:
            population.needed.add(pointed)
        previous, pointed = pointed, target
        stack = stack[:-1] if back else [*stack, target]
        last = previous
    if version:
        population.needed |= {pointed, *stack[-2:], *([last] if version > 1 else [])}


async def use(database: AsyncEngine, rng: random.Random, population: Population, checkpoint: str) -> None:
    kind = rng.choice(["none", "none", "model", "job", "promotion"])
    if kind == "model":
        state = rng.choice(["alive", "pinned", "being made", "expired", "deleted"])
        await adapted(database, checkpoint, state)
        if state in ("alive", "pinned", "being made"):
            population.needed.add(checkpoint)
    if kind == "job":
        status = rng.choice(["queued", "paused", "running", "succeeded", "failed", "cancelled"])
        await a_job(database, checkpoint, status)
        if status in ("queued", "paused", "running"):
            population.needed.add(checkpoint)
    if kind == "promotion":
        other = await registered(database, population.name, job=None)
        ended = rng.random() < 0.5
        pair = (checkpoint, other) if rng.random() < 0.5 else (other, checkpoint)
        await execute(database, "UPDATE promotions SET status = 'failed' WHERE name = :name", name=population.name)
        promotion = await asked(database, population.name, *pair, 1)
        if ended:
            await execute(database, "UPDATE promotions SET status = 'refused' WHERE id = :id", id=promotion.id)


async def comparing(database: AsyncEngine, population: Population) -> set[str]:
    """Of the promotions made above only the last may be open."""
    async with database.connect() as connection:
        rows = await connection.execute(
            text("SELECT challenger_id, incumbent_id FROM promotions WHERE name = :name AND status = 'queued'"),
            {"name": population.name},
        )
        return {checkpoint for row in rows for checkpoint in row}


@pytest.mark.parametrize("seed", range(12))
async def test_what_somebody_needs_stays_and_all_else_goes(database: AsyncEngine, seed: int):
    rng = random.Random(seed)
    populations = [await populate(database, rng) for _ in range(3)]
    gone = await swept(database)
    for population in populations:
        needed = population.needed | await comparing(database, population)
        unneeded = (population.old & population.made_by_jobs) - needed
        assert gone & (population.old | population.made_by_jobs | needed) == unneeded
    assert await swept(database) == set()


async def test_deleting_says_who_needs_it(database: AsyncEngine):
    name = a_name()
    used, other = await registered(database, name), await registered(database, name)
    version = (await moved(database, name, used)).version
    await adapted(database, used)
    await adapted(database, used, "being made")
    await adapted(database, used, "expired")
    job, promotion = await a_job(database, used), await asked(database, name, other, used, version)
    with pytest.raises(Conflict) as caught:
        await deleted(database, used)
    said = caught.value.message
    for user in (f"{name}@production", "2 adapted models", "1 adaptation under way", job, promotion.id):
        assert user in said
    with pytest.raises(Conflict, match=promotion.id):
        await deleted(database, other)
    with pytest.raises(NotFound):
        await deleted(database, new_id("ckpt"))
    unused = await registered(database, name, job=None)
    assert await deleted(database, unused) and not await deleted(database, unused)


async def test_a_model_that_is_being_accepted_keeps_its_checkpoint(database: AsyncEngine):
    """It was resolved, its row is written, the commit is still to come: the deletion waits, and then sees it."""
    checkpoint = await registered(database, a_name())
    await age(database, checkpoint)
    model = a_model(checkpoint)
    async with database.begin() as accepting:
        await insert_adapted_model(accepting, model)
        await insert_task(accepting, its_task(model))
        assert checkpoint not in await swept(database)
        deletion = asyncio.create_task(deleted(database, checkpoint))
        await asyncio.sleep(0.2)
        assert not deletion.done()
    with pytest.raises(Conflict, match="1 adapted model"):
        await deletion
    assert checkpoint not in await swept(database)


async def test_nothing_is_accepted_with_a_checkpoint_that_is_being_deleted(database: AsyncEngine):
    checkpoint = await registered(database, a_name())

    async def accept() -> None:
        async with database.begin() as connection:
            await insert_adapted_model(connection, a_model(checkpoint))

    async with database.begin() as connection:
        await retention.delete_checkpoint(connection, checkpoint)
        accepting = asyncio.create_task(accept())
        await asyncio.sleep(0.2)
        assert not accepting.done()
    with pytest.raises(Expired):
        await accepting
    with pytest.raises(Expired):
        await a_job(database, checkpoint)


async def test_accepting_and_sweeping_at_once_never_leaves_a_model_without_weights(database: AsyncEngine):
    checkpoints = [await registered(database, a_name()) for _ in range(40)]
    for checkpoint in checkpoints:
        await age(database, checkpoint)

    async def accept(checkpoint: str) -> str | None:
        await asyncio.sleep(random.random() / 20)
        try:
            async with database.begin() as connection:
                await insert_adapted_model(connection, a_model(checkpoint))
        except Expired:
            return None
        return checkpoint

    async def sweep() -> set[str]:
        async with database.begin() as connection:
            return set(await retention.delete_unpromoted(connection, KEPT_S, 5))

    found = await asyncio.gather(*(accept(one) for one in checkpoints), *(sweep() for _ in range(12)))
    made = {one for one in found[: len(checkpoints)] if isinstance(one, str)}
    gone = set[str]().union(*(one for one in found[len(checkpoints) :] if isinstance(one, set)))
    assert not made & gone and made | gone <= set(checkpoints) | gone
    assert gone & set(checkpoints) == set(checkpoints) - made


async def test_predictions_go_after_their_time(database: AsyncEngine):
    checkpoint = await registered(database, a_name())
    for i in range(5):
        await execute(
            database,
            "INSERT INTO predictions (id, tenant_id, checkpoint_id, n_query, predictions, timings, created_at) "
            "VALUES (:id, :tenant, :checkpoint, 1, '[]', '{}', now() - make_interval(days => :days))",
            id=new_id("pred"), tenant=DEFAULT_TENANT, checkpoint=checkpoint, days=10 * i,
        )  # fmt: skip
    async with database.begin() as connection:
        counts = [await retention.delete_old_predictions(connection, KEPT_S, 1) for _ in range(3)]
    assert counts == [1, 1, 0]  # of 30 and 40 days; the youngest three stay
    async with database.connect() as connection:
        left = await connection.scalar(
            text("SELECT count(*) FROM predictions WHERE checkpoint_id = :id"), {"id": checkpoint}
        )
    assert left == 3


async def test_events_go_with_time_where_the_job_has_ended(database: AsyncEngine):
    checkpoint = await registered(database, a_name())
    open_job, fresh, old = [await a_job(database, checkpoint) for _ in range(3)]
    for job, days in ((fresh, 1), (old, DAYS + 1)):
        statement = (
            "UPDATE training_jobs SET status = 'failed', finished_at = now() - make_interval(days => :d) WHERE id = :id"
        )
        await execute(database, statement, d=days, id=job)
    async with database.begin() as connection:
        assert await retention.delete_old_events(connection, KEPT_S) == 1
    async with database.connect() as connection:
        left = await connection.scalars(
            text("SELECT job_id FROM job_events WHERE job_id = ANY(:ids)"), {"ids": [open_job, fresh, old]}
        )
        assert set(left) == {open_job, fresh}
