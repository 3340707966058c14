"""A tenant's transactions, in which Postgres itself shows and takes that tenant's rows alone.

Row-level security (migration 0008): such a transaction acts as `pg_database_owner`, a role of every Postgres that owns
nothing here and may not log in, with the tenant in a setting; each table's policy compares the two. So a filter that is
forgotten in a query finds nothing, and there is no role to create: whoever owns the database may act as this one. What
the role may do to each table stands in the function `grant_to_tenants`.

Who does not act for one tenant (workers, administrators, what looks up keys) is the owner, whom no policy binds.
`tests/architecture/test_tenancy.py` knows them all.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

ROLE = "pg_database_owner"
_CONFINE = text("SELECT set_config('role', :role, true), set_config('kshot.tenant', :tenant, true)")
_ACT_AS = text("SELECT set_config('role', :role, true)")
_LOCK = 0x67726E74  # "grnt": of two that grant the same at once, Postgres would refuse one
_MISSING = text("""
SELECT to_regproc('grant_to_tenants') IS NOT NULL AND NOT has_table_privilege(:role, to_regclass('tenants'), 'SELECT')
""")


async def confine(connection: AsyncConnection, tenant: str) -> None:
    """From here to its end the transaction sees and changes rows of this tenant alone."""
    await connection.execute(_CONFINE, {"role": ROLE, "tenant": tenant})


@asynccontextmanager
async def unconfined(connection: AsyncConnection) -> AsyncIterator[None]:
    """Within a confined transaction: what concerns everyone, such as how much waits. An error inside ends the
    transaction."""
    await connection.execute(_ACT_AS, {"role": "none"})
    yield
    await connection.execute(_ACT_AS, {"role": ROLE})


async def grant_again(connection: AsyncConnection) -> None:
    """After a restore, which leaves privileges out, and before the service starts, since that may have ended before it
    came to this. Tables from before revision 0008 get theirs when they migrate."""
    await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if await connection.scalar(_MISSING, {"role": ROLE}):
        await connection.execute(text("SELECT grant_to_tenants()"))
