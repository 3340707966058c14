"""Before the start, and keys made outside the API: the bootstrap admin key, and the command line's."""

from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Conflict, Unauthenticated
from kshot.contracts.ids import new_id
from kshot.storage.access import Key, Role, any_key, audit, authenticate, ensure_tenant, generate_secret, insert_key
from kshot.storage.database import open_database
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tenancy import grant_again
from service.database import Database
from service.settings import Settings
from service.sizing import check_connections


async def prepare(settings: Settings, processes: int) -> bool:
    """What is done once before ``processes`` of the service start: grant what a restore left out, store KSHOT_ADMIN_KEY
    where it is set, and look whether Postgres has room for their connections. Returns whether any key exists.

    Unavailable: no database. Conflict: the key cannot be used as given.
    """
    database = Database(open_database(settings.database, pool_size=1))
    try:
        async with database.transaction() as connection:
            await grant_again(connection)
            if settings.admin_key is not None:
                await _store_bootstrap(connection, settings.admin_key.get_secret_value())
            await check_connections(connection, settings, processes)
            return await any_key(connection)
    except Unauthenticated:
        raise Conflict("KSHOT_ADMIN_KEY was revoked or has ended; choose another one") from None
    finally:
        await database.close()


async def create_key(settings: Settings, *, tenant: str, role: Role, name: str) -> str:
    """Make a key for a tenant (made where it is new) and return its secret."""
    database = Database(open_database(settings.database, pool_size=1))
    secret = generate_secret()
    try:
        async with database.transaction() as connection:
            tenant_id = await ensure_tenant(connection, tenant)
            key = await insert_key(connection, secret=secret, tenant=tenant_id, name=name, role=role)
            await _note_made(connection, key)
        return secret
    finally:
        await database.close()


async def _store_bootstrap(connection: AsyncConnection, secret: str) -> None:
    """Raises Conflict, and Unauthenticated where the key that is stored has ended."""
    new = new_id("key")
    key = await insert_key(connection, secret=secret, tenant=DEFAULT_TENANT, name="bootstrap", role="admin", id=new)
    if key.id == new:
        await _note_made(connection, key)
    await authenticate(connection, secret)


async def _note_made(connection: AsyncConnection, key: Key) -> None:
    """In the audit log, made with no key and by no request: by the operator."""
    await audit(connection, tenant=key.tenant, key=None, action="api_key.create", object_id=key.id, request_id=None)
