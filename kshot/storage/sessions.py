"""Sessions of the console: a browser's random secret in the place of an API key, for half a day.

A session holds for as long as its key does: reading one (`storage/lookups.py`) joins the key, so revoking ends both.
"""

import hashlib
import secrets

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.storage.access_tables import sessions
from kshot.storage.tables import api_keys, seconds_from_now, tenants

LIFETIME_S = 12 * 3600


async def create_session(connection: AsyncConnection, key: str) -> str:
    """The secret of a new session, 256 random bits in hexadecimal, of which the sha256 is stored. Sweeps what has
    expired."""
    secret = secrets.token_hex(32)
    await connection.execute(delete(sessions).where(sessions.c.expires_at < func.now()))
    await connection.execute(
        insert(sessions).values(sha256=digest_of(secret), key_id=key, expires_at=seconds_from_now(LIFETIME_S))
    )
    return secret


async def end_session(connection: AsyncConnection, secret: str) -> None:
    """Sign out; a session that is not there is no error."""
    await connection.execute(delete(sessions).where(sessions.c.sha256 == digest_of(secret)))


async def names_of_key(connection: AsyncConnection, key: str) -> tuple[str, str]:
    """What people call a key and its tenant."""
    named = select(api_keys.c.name, tenants.c.name).join(tenants, tenants.c.id == api_keys.c.tenant_id)
    key_name, tenant = (await connection.execute(named.where(api_keys.c.id == key))).one()
    return key_name, tenant


def digest_of(secret: str) -> bytes:
    """What stands in the table in a secret's place."""
    return hashlib.sha256(secret.encode()).digest()
