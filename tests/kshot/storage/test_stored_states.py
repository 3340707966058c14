"""States are read by the rows that are wanted, however many models a tenant has."""

import json
import re

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.ids import new_id
from kshot.storage import states
from kshot.storage.tables import DEFAULT_TENANT

_MODELS = 5000


async def test_the_plan_for_all_parameters_reads_no_more_than_is_wanted(database: AsyncEngine, checkpoint: str):
    """As after some executions, when the plan is made once, and before Postgres has counted the rows."""
    prefix = new_id("am")
    async with database.connect() as connection:
        given = {"prefix": prefix, "n": _MODELS, "tenant": DEFAULT_TENANT, "checkpoint": checkpoint}
        for statement in _FILL:
            await connection.execute(text(statement), given)
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute(f"SET LOCAL plan_cache_mode = force_generic_plan; PREPARE read AS {states._READ}")
        wanted = ", ".join(f"ARRAY['{value}']" for value in (DEFAULT_TENANT, f"{prefix}-7", f"{prefix}-7-task"))
        rows = await driver.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE read({wanted})")
        await driver.execute("DEALLOCATE read")
        await connection.rollback()
    plan = rows[0][0] if isinstance(rows[0][0], str) else json.dumps(rows[0][0])
    counts = [float(n) for n in re.findall(r'"(?:Actual Rows|Rows Removed by \w+)": ([\d.]+)', plan)]
    assert counts and max(counts) <= 2, plan


_FILL = (
    """
    INSERT INTO adapted_models (
        id, tenant_id, checkpoint_id, checkpoint_name, learner, options, task, classes, k_shot, n_support,
        input_shape, task_id
    ) SELECT :prefix || '-' || i, :tenant, :checkpoint, 'plain', 'protonet', '{}', 'classification', '["a"]', '[1]', 1,
        '[3]', :prefix || '-' || i || '-task'
    FROM generate_series(1, :n) AS i
    """,
    """
    INSERT INTO tasks (id, tenant_id, adapted_model_id, checkpoint_id, learner, status)
    SELECT :prefix || '-' || i || '-task', :tenant, :prefix || '-' || i, :checkpoint, 'protonet', 'succeeded'
    FROM generate_series(1, :n) AS i
    """,
    """
    INSERT INTO results (task_id, object_sha256, timings)
    SELECT :prefix || '-' || i || '-task', 'x', '{}' FROM generate_series(1, :n) AS i
    """,
)
